"""Built-in plugins of the family `priority`."""
