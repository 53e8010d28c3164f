"""The node daemon: registers its machine, starts what the controller signed, reports what became of it."""
