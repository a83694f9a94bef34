"""Benchmarks: how fast, how large and how right we are, beside others where there are others.

In: the study corpus (`study`), made from a seed, or the demo's world. Out: one JSON object as the last line of each command;
README.md has the commands and how each comparison is made fair. Rooms in the order of a night: `study` writes the rows, `data`
packs them, `engine` and `train` train on them, `evaluation` serves and scores. What they share stands here: `sides` runs the
sides of a comparison, `turns` lets two of them run in turns of seconds, `memory` samples what they hold. One more benchmark: a
module with a `main` in its room, a row in README.md, and a `make bench-...` target if it has a target to meet.
"""
