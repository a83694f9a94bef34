"""Everything that can be checked before anything expensive starts."""
