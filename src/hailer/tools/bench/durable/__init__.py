"""Messages that are stored: hailer's mailboxes beside JetStream, redis streams, MQTT and plain SQLite.

dialects   what senders say to each store, and hear, as bytes
takers     what receivers hear and say
party      both, with their sockets
stores     how each store is found and set
load       one measurement, in a process of its own
sqlite     the same for SQLite alone
sink       a store that stores nothing
opening    how long a relay takes to start where many messages wait
plan       what is measured
run        all rounds, into results
"""

from __future__ import annotations

__all__: list[str] = []
