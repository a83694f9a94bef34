"""The laptop twin of production: a Ray head, Airflow and a store on this machine, started and ended together."""
