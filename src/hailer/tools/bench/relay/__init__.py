"""Relays side by side: the same loads on this one, on others that are on the machine, and on a floor in C.

dialects   what is said to each, as bytes
peers      how each is found, set, started and stopped
party      who is logged in during a measurement
streams    the loads whose next message leaves as soon as it can
paced      the load whose messages leave when they are due
mixed      sizes of all kinds to receivers by chance, some of them to be stored
load       one measurement, in a process of its own
plan       which loads at which sizes, and how long that takes
run        all rounds, into results
goals      what the relay ought to reach, beside what it did
"""

from __future__ import annotations

__all__: list[str] = []
