"""How long the property tests of the readers search."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("readers", deadline=None, max_examples=60, database=None)
settings.load_profile("readers")
