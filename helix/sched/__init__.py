"""Scheduling vocabulary and pure tools for policies: requests, snapshots, plans, placement, explanations."""
