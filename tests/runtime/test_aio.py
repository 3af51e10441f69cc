import asyncio
import time

import pytest
import trio

from berth.runtime.aio import AioTimeout, open_aio


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


async def test_results_and_errors_come_back() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    async with open_aio() as aio:
        assert await aio.run(double, 21, timeout_seconds=5) == 42
        with pytest.raises(LookupError, match="gone"):
            await aio.run(fail, timeout_seconds=5)


async def test_it_works_from_tasks_older_than_the_loop(nursery: trio.Nursery) -> None:
    found: list[int] = []
    async with open_aio() as aio:

        async def use() -> None:
            found.append(await aio.run(double, 2, timeout_seconds=5))

        async with trio.open_nursery() as inner:
            nursery.start_soon(use)
            for number in range(10):
                inner.start_soon(lambda number=number: aio.run(double, number, timeout_seconds=5))
    assert found == [4]


async def test_a_cancellation_waits_for_the_call() -> None:
    done: list[str] = []

    async def commit() -> None:
        await asyncio.sleep(0.1)
        done.append("committed")

    async with open_aio() as aio:
        with trio.move_on_after(0.01) as scope:
            await aio.run(commit, timeout_seconds=5)
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert done == ["committed"]


async def test_a_timeout_ends_the_call() -> None:
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async with open_aio() as aio:
        start = time.monotonic()
        with pytest.raises(AioTimeout, match=r"within 0\.05 s"):
            await aio.run(hang, timeout_seconds=0.05)
        assert ended == ["cancelled"]
        assert time.monotonic() - start < 5
        assert await aio.run(double, 1, timeout_seconds=5) == 2


async def test_leaving_the_loop_ends_what_it_started() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async def spawn() -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(background())
        await asyncio.sleep(0)
        return task

    async with open_aio() as aio:
        task = await aio.run(spawn, timeout_seconds=5)
    assert ended == ["cancelled"]
    assert task.cancelled()
