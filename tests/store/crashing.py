"""A process to be killed: `python -m tests.store.crashing PATH` writes leases and tells each that is durable.

Each line is a lease's number and the version that won.
"""

import os
import sys

import trio

from berth.core.names import Key
from berth.runtime.clock import SystemClock
from berth.store.sqlite import SqliteStore, open_sqlite
from tests.store.conformance import read_one
from tests.store.samples import held

LEASES = 8


def key_of(number: int) -> Key:
    return Key("default", f"lease-{number}")


async def keep_writing(store: SqliteStore, number: int) -> None:
    record = (await read_one(store, key_of(number))).record
    version = record.version if record else 0
    while True:
        version += 1
        assert await store.write([held(key_of(number), version, version)])
        os.write(1, f"{number} {version}\n".encode())


async def main(path: str) -> None:
    opened = open_sqlite(path, clock=SystemClock(), boot_id="boot-1")
    async with opened as store, trio.open_nursery() as nursery:
        for number in range(LEASES):
            nursery.start_soon(keep_writing, store, number)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
