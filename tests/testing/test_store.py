"""The suite for stores finds what is wrong with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.relay.store.memory import MemoryStore
from hailer.testing.store import check_store

if TYPE_CHECKING:
    from hailer.relay.core.batch import Batch, Loaded, Page, Segment


class EndsAtNul(MemoryStore):
    def read(self, box: int, after: int, most: int) -> Page:
        page = super().read(box, after, most)
        return page._replace(data=page.data.split(b"\0")[0])


class ReadsTooMuch(MemoryStore):
    def read(self, box: int, after: int, most: int) -> Page:
        return super().read(box, after, most + 1)


class ForgetsFloors(MemoryStore):
    def commit(self, batch: Batch) -> dict[int, int]:
        batch.floors = {}
        return super().commit(batch)


class SaysNothingOfFloors(MemoryStore):
    def commit(self, batch: Batch) -> dict[int, int]:
        super().commit(batch)
        return {}


class ForgetsSenders(MemoryStore):
    def commit(self, batch: Batch) -> dict[int, int]:
        batch.senders = []
        return super().commit(batch)


class CountsRoomsByCase(MemoryStore):
    def commit(self, batch: Batch) -> dict[int, int]:
        batch.left = [member for member in batch.left if member.room.islower()]
        return super().commit(batch)


class UsesNumbersAgain(MemoryStore):
    def load(self) -> Loaded:
        loaded = super().load()
        loaded.next_box = len(loaded.boxes) + 1
        return loaded


class GivesTheYoungestFirst(MemoryStore):
    def older(self, at: int, most: int) -> list[Segment]:
        return super().older(at, 10**9)[-most:] if most else []


def test_a_sound_one_passes() -> None:
    check_store(lambda _name: MemoryStore())


def test_one_that_does_not_last_is_found() -> None:
    with pytest.raises(AssertionError, match="opened again"):
        check_store(lambda _name: MemoryStore(), durable=True)


@pytest.mark.parametrize(
    "faulty",
    [
        EndsAtNul,
        ReadsTooMuch,
        ForgetsFloors,
        SaysNothingOfFloors,
        ForgetsSenders,
        CountsRoomsByCase,
        UsesNumbersAgain,
        GivesTheYoungestFirst,
    ],
)
def test_faults_are_found(faulty: type[MemoryStore]) -> None:
    with pytest.raises(AssertionError):
        check_store(lambda _name: faulty())
