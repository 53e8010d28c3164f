"""What helixd decides, without a clock, a socket or a file."""
