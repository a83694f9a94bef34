"""Access to a cluster through an Airflow connection."""
