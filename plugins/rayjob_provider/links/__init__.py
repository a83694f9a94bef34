"""Links from a task instance to the Ray dashboard."""
