"""A model under evaluation is an endpoint: start it, wait for it, find it."""
