"""The laptop twin of production: a Ray head, Airflow and a store on this machine, started and ended together.

In: a configuration. Out: a finished night, or a twin that stays up. In the order of a night: `night` has the commands, `services`
starts the processes (`ports` chooses where, `processes` finds, measures and ends them), `airflow_api` triggers the DAG and
`watch` follows it. One more component: a name in `services.AIRFLOW_COMPONENTS`, or a start method beside Ray's.
"""
