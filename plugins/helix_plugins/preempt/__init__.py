"""Built-in plugins of the family `preempt`."""
