"""Plugins: what each family must offer, and how one is found by its configured name."""
