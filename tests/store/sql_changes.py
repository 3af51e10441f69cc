"""What servers owe each other that share a database, as tests.

Inherit `SqlChanges` beside a fixture named `server`.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Ended, Record
from berth.store.api import Changes, SharedStore
from tests.store.conformance import must_win
from tests.store.samples import KEY, SESSIONS, held, many_keys, stored_keys
from tests.store.sql_faults import serves_again

LAST = Key("default", "z")


class SqlChanges:
    def opened(self, server: Any) -> "AbstractAsyncContextManager[SharedStore]":
        raise NotImplementedError

    @pytest.fixture
    async def pair(self, server: Any) -> AsyncGenerator[tuple[SharedStore, SharedStore]]:
        async with self.opened(server) as one, self.opened(server) as other:
            yield one, other

    async def test_others_changes_are_heard_within_a_second(self, pair: tuple[SharedStore, SharedStore]):
        here, there = pair
        async with aclosing(here.changes()) as changes:
            assert (await next_of(changes)).everything
            await trio.sleep(0.3)
            await must_win(there, held(), SESSIONS[0])
            assert await next_of(changes) == Changes(frozenset([KEY]))
            await must_win(there, held(version=2, token=2, holder="next"))
            assert await next_of(changes) == Changes(frozenset([KEY]))
            freed = Record(KEY, 3, 2, (), ended=Ended(1, 2, True))
            await must_win(there, freed)
            assert await next_of(changes) == Changes(frozenset([KEY]))
            ended = replace(SESSIONS[0], version=2, mark=1, ended="clean", ended_at_us=1)
            await must_win(there, ended)
            assert await next_of(changes) == Changes(sessions=frozenset([ended.id]))

    async def test_neither_renewals_nor_one_s_own_writes_are_told(
        self, pair: tuple[SharedStore, SharedStore]
    ):
        here, there = pair
        await must_win(there, held(), SESSIONS[0])
        await trio.sleep(0.1)
        async with aclosing(here.changes()) as changes:
            assert (await next_of(changes)).everything
            await must_win(there, held(version=2), replace(SESSIONS[0], version=2))
            await must_win(here, held(Key("default", "own")))
            await must_win(here, held(version=3, token=2))
            await must_win(there, held(LAST))
            assert await next_of(changes) == Changes(frozenset([LAST]))

    async def test_many_changes_at_once(self, pair: tuple[SharedStore, SharedStore]):
        here, there = pair
        keys = many_keys(2_000)
        async with aclosing(here.changes()) as changes:
            assert (await next_of(changes)).everything
            await must_win(there, *stored_keys(keys))
            found: set[Key] = set()
            while len(found) < len(keys):
                found |= (await next_of(changes)).leases
            assert found == set(keys)

    async def test_what_may_have_been_missed_is_told_as_everything(
        self, server: Any, pair: tuple[SharedStore, SharedStore]
    ):
        async with aclosing(pair[0].changes()) as changes:
            assert (await next_of(changes)).everything
            server.restart()
            assert (await next_of(changes, within_seconds=3)).everything
            await serves_again(pair[1])
            await must_win(pair[1], held(LAST))
            assert LAST in (await next_of(changes)).leases


async def next_of(changes: AsyncGenerator[Changes], within_seconds: float = 1.0) -> Changes:
    with trio.fail_after(within_seconds):
        return await anext(changes)
