"""The relay's edges: sockets, clocks and threads round the pure core."""
