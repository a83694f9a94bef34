"""The configuration: a YAML file goes in, one checked and typed tree with its hash comes out.

In order: the sections (`data`, `arms`, `training`, `serving`, `external`), the tree that joins them (`night`), the file with its
variables, presets and overrides (`file`), and the reference that is made from all of them (`reference`).

To add a key: a field with a description in its section, then `make docs`; who reads it finds it in the tree. Everything in
the tree counts in the hash of a run.
"""
