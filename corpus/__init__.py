"""From raw feedback to exact training shards: read, validate, compare, encode, plan, write, and tell what was done."""
