"""Built-in plugins of the family `sched`."""
