"""What helixd does: the link, the steps log, the shepherds, the agent socket."""
