"""The SQLite store: the contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from berth.runtime.clock import ManualClock
from berth.store.sqlite import SqliteStore, open_sqlite
from tests.store.conformance import StoreConformance


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(boot_us=123_456, wall_us=1_700_000_000_000_000)


@pytest.fixture
async def store(clock: ManualClock, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(str(tmp_path / "berth.db"), clock=clock, boot_id="boot-1") as store:
        yield store


class TestSqliteStore(StoreConformance):
    pass
