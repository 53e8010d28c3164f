"""The controller's shell: journal, sockets, threads and clocks around the pure core."""
