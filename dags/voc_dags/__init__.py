"""What the DAG files share: how a stage becomes a Ray job, and the evaluation group.

Imports voc and the provider only; nothing heavy, because the DAG processor loads this again and again.
"""
