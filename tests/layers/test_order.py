from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from hailer.errors import BusyError, HailerError, TimedOut
from hailer.layers.order import Order
from hailer.runtime.blocking import run_to_end
from hailer.testing.clock import settle


def test_a_free_turn_is_taken_without_suspending_and_without_a_loop() -> None:
    order = Order()

    async def main() -> None:
        for _ in range(3):
            async with order:
                assert order.taken
            await order.take(time.monotonic() - 1)
            order.give_on()

    run_to_end(main())
    assert not order.taken


def test_asyncio_is_not_imported_for_it() -> None:
    code = "import sys, hailer.layers.order; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    async def main() -> None:
        order = Order()
        came: list[str] = []

        async def work(name: str) -> None:
            for round_ in range(3):
                async with order:
                    came.append(f"{name}{round_}")
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)

        await asyncio.gather(*(work(name) for name in "abc"))
        assert came == [f"{name}{round_}" for round_ in range(3) for name in "abc"]
        assert not order.taken

    asyncio.run(main())


def test_nobody_comes_between_a_turn_given_on_and_the_one_who_waits_for_it() -> None:
    async def main() -> None:
        order = Order()
        came: list[str] = []

        async def work(name: str) -> None:
            async with order:
                came.append(name)

        await order.take()
        waiting = asyncio.create_task(work("waited"))
        await settle()
        order.give_on()
        await work("came later")
        await waiting
        assert came == ["waited", "came later"]

    asyncio.run(main())


@pytest.mark.parametrize("given", [False, True], ids=["while waiting", "as the turn comes"])
def test_a_cancelled_wait_does_not_keep_the_turn(given: bool) -> None:
    async def main() -> None:
        order = Order()
        await order.take()
        first = asyncio.create_task(order.take())
        second = asyncio.create_task(order.take())
        await settle()
        if given:
            order.give_on()
        first.cancel()
        if not given:
            await settle()
            order.give_on()
        with pytest.raises(asyncio.CancelledError):
            await first
        async with asyncio.timeout(5):
            await second
        order.give_on()
        assert not order.taken

    asyncio.run(main())


def test_a_wait_ends_at_its_deadline_and_the_others_wait_on() -> None:
    async def main() -> None:
        order = Order()
        await order.take()
        patient = asyncio.create_task(order.take())
        hasty = asyncio.create_task(order.take(time.monotonic() + 0.02))
        with pytest.raises(TimedOut, match="does not read"):
            await hasty
        with pytest.raises(TimedOut):
            await order.take(time.monotonic() - 1)
        order.give_on()
        await patient
        order.give_on()
        assert not order.taken

    asyncio.run(main())


def test_an_error_inside_ends_the_turn() -> None:
    async def main() -> None:
        order = Order()
        with pytest.raises(ValueError, match="mine"):
            async with order:
                raise ValueError("mine")
        assert not order.taken

    asyncio.run(main())


def test_threads_take_turns_too() -> None:
    order = Order()
    inside: list[str] = []

    async def work(name: str) -> None:
        for _ in range(200):
            async with order:
                inside.append(name)
                assert inside == [name]
                time.sleep(0)  # noqa: ASYNC251 (which lets other threads run)
                inside.remove(name)

    threads = [threading.Thread(target=run_to_end, args=(work(name),)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not order.taken


def test_a_thread_does_not_wait_longer_than_its_deadline() -> None:
    order = Order()
    errors: list[HailerError] = []

    def wait() -> None:
        try:
            run_to_end(order.take(time.monotonic() + 0.02))
        except HailerError as error:
            errors.append(error)

    run_to_end(order.take())
    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert [type(error) for error in errors] == [TimedOut]
    order.give_on()
    assert not order.taken


def test_two_tasks_of_a_thread_without_a_loop_do_not_stop_it_for_ever() -> None:
    order = Order()
    assert order.take_if_free()
    assert not order.take_if_free()
    with pytest.raises(BusyError, match="let one task send"):
        run_to_end(order.take())
    order.give_on()
    run_to_end(order.take())
