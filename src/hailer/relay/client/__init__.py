"""The client's side of the relay protocol: a sans-I/O half, and an asyncio client on top of it."""
