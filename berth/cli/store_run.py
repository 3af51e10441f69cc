"""What `berth store …` does: opens the database that the options name, once, and closes it again."""

import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import trio

from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.output import print_record
from berth.cli.store import CheckOptions, JumpOptions, StoreOptions
from berth.roles.apiserver.stores import DsnFileInvalid, dsn, open_sql
from berth.runtime.clock import MICROSECONDS, SystemClock
from berth.runtime.log import Logs
from berth.store.api import Store, StoreFault, StoreRefused
from berth.store.doubts import TOKEN_JUMP
from berth.store.moving import Unreadable, check_lines, exported, import_lines
from berth.store.schema import Migrate
from berth.store.sql_store import Settings, SqlStore
from berth.store.sqlite import SqliteStore

POOL_SIZE = 1


def check(options: CheckOptions) -> None:
    trio.run(_check, options)


def migrate(options: StoreOptions) -> None:
    trio.run(_migrate, options)


def export(options: StoreOptions) -> None:
    trio.run(_export, options)


def import_file(options: StoreOptions, file: Path) -> ExitCode:
    return trio.run(_import, options, file)


def fence_jump(options: JumpOptions) -> None:
    trio.run(_fence_jump, options)


@asynccontextmanager
async def _opened(options: StoreOptions, migrate: Migrate = "off") -> AsyncGenerator[Store]:
    """The store. What goes wrong with it, in the body too, ends the command with a line of text."""
    logger = Logs("warn", "text").logger("store")
    settings = Settings(SystemClock(), logger, POOL_SIZE, options.store_durability)
    assert options.sql_driver is not None
    failure: Failure
    try:
        source = dsn(options.sql_dsn, options.sql_dsn_file)
        async with open_sql(options.sql_driver, source, settings, migrate) as store:
            yield store
        return
    except DsnFileInvalid as fault:
        failure = Failure(f"--sql-dsn-file: {fault}", ExitCode.USAGE)
    except StoreRefused as refused:
        failure = Failure(str(refused))
    except ExceptionGroup as group:
        faults, others = group.split(StoreFault)
        if faults is None or others is not None:
            raise
        failure = Failure(_first(faults), ExitCode.UNREACHABLE)
    raise failure


def _first(faults: ExceptionGroup[StoreFault]) -> str:
    """What the first of them says, however deep it is."""
    fault = faults.exceptions[0]
    return _first(fault) if isinstance(fault, ExceptionGroup) else str(fault)


async def _check(options: CheckOptions) -> None:
    async with _opened(options) as store:
        await store.ping()
        facts: dict[str, object] = {"driver": options.sql_driver}
        if isinstance(store, SqlStore):
            facts |= await _facts(store)
        print_record(facts, options.output)


async def _facts(store: SqlStore) -> dict[str, object]:  # type: ignore[type-arg]  # whichever connection
    clock = SystemClock()
    before_us = clock.wall_us()
    facts = await store.facts()
    return {
        "identity": facts.identity,
        "incarnation": facts.incarnation,
        "leases": facts.leases,
        "sessions": facts.sessions,
        "longestTtlSeconds": facts.ttl_max_us / MICROSECONDS,
        "clockAheadSeconds": round((facts.now_us - (before_us + clock.wall_us()) // 2) / MICROSECONDS, 3),
    }


async def _migrate(options: StoreOptions) -> None:
    async with _opened(options, "auto"):
        print("the schema is up to date", file=sys.stderr)


async def _export(options: StoreOptions) -> None:
    async with _opened(options) as store, aclosing(exported(store)) as lines:
        async for line in lines:
            sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def _import(options: StoreOptions, file: Path) -> ExitCode:
    try:
        check_lines(_lines(file))
    except (Unreadable, OSError) as fault:
        raise Failure(f"{file}: {getattr(fault, 'strerror', None) or fault}", ExitCode.USAGE) from None
    async with _opened(options, "auto") as store:
        moved = await import_lines(store, _lines(file))
    print(f"imported {moved.leases} leases and {moved.sessions} sessions", file=sys.stderr)
    for left in moved.left:
        print(f"was there already, and is as it was: {left}", file=sys.stderr)
    return ExitCode.NOT_MET if moved.left else ExitCode.DONE


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from opened


async def _fence_jump(options: JumpOptions) -> None:
    async with _opened(options) as store:
        assert isinstance(store, SqlStore | SqliteStore)
        seconds = await store.change_incarnation(-(-options.by // TOKEN_JUMP)) / MICROSECONDS
        print(f"done; servers grant nothing for {seconds:.0f} s, and then higher tokens", file=sys.stderr)
