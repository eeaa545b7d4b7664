"""The relay as a pure state machine: bytes and the time in, bytes and effects out.

Nothing here opens a socket, starts a thread or reads a clock. An edge (`hailer.relay.edge`) owns the
sockets; it hands in what each read brought and writes what the sessions' outboxes hold.
"""
