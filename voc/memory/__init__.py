"""The memory plan of a training: will it fit, and what to change. Pure."""
