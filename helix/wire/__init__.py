"""Messages, framing, authentication and transport: the only sockets of `helix`."""
