"""What every room stands on: where tasks run, how files come into the store and back, and what the written files hold.

- `tasks`: one function over many arguments, in this process or on a cluster; the session with Ray
- `stored_file`: a file of a directory in the store, written in place or uploaded, localised and verified
- `results`: the contents of the files that this package hands on, with the units of every figure
"""
