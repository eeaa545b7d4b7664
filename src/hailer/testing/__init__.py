"""Parts for testing handlers, transports, framings and clocks, for the users of hailer too.

A handler needs no sockets to be tested:

    import asyncio
    from hailer import Connection
    from hailer.framing import LineFraming
    from hailer.testing.memory import memory_pair

    async def test_greets() -> None:
        ours, theirs = memory_pair()
        handler = asyncio.create_task(handle(Connection(theirs, LineFraming())))
        client = Connection(ours, LineFraming())
        await client.send(b"world")
        assert await client.receive() == b"hello, world"
        await client.close()
        await handler

    memory      pairs of transports in memory: with a bounded buffer, in lockstep, or of records
    clock       a clock that tests move by hand
    transport   the conformance suite of a transport
    records     the conformance suite of a record transport
    framing     the conformance suite of a framing
    store       the conformance suite of a relay's store of mail
"""
