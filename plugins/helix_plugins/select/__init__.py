"""Built-in plugins of the family `select`."""
