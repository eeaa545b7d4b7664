"""Sockets without policy: resolve, dial, listen, and one place that explains the system's errors.

    address     one socket address, and its text
    resolve     an endpoint to its addresses, with a deadline
    eyeballs    in which order and when to try addresses (no I/O)
    backoff     how long to wait before trying again (no I/O)
    dial        a connected socket, blocking or for asyncio
    listen      listening sockets; unix, inherited, stdio: the kinds that need care
    listener    a listening socket, its endpoint as bound, and what is accepted from it
    datagrams   conversations out of datagrams; outlet: where their answers go
    holder      which process has a port
    options     socket options that not every system has
    oserrors    errors of the operating system to those of hailer

Nothing here reads or writes messages, and nothing decides what to do with a connection.
"""
