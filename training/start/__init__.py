"""How a training is started: the memory plan, room on the cluster, Ray Train or this process, and a clock for the start."""
