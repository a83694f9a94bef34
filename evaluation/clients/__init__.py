"""Clients of a model under evaluation: one interface, and the protocols that speak it."""
