"""How any suite runs in pieces: shards, part files, the cache, coverage."""
