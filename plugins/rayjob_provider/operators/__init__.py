"""Tasks that run and stop jobs."""
