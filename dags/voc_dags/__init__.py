"""What the DAG files share: how a stage becomes a Ray job, and the evaluation group.

Imports voc, the provider and the plan of the suites (`evaluation.suites.registry`) only; nothing heavy, because the DAG
processor loads this again and again.
"""
