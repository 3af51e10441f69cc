"""Two writers at one SQL fence: every way they can meet, on real databases at every isolation level."""

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import psycopg.rows
import pymysql
import pymysql.cursors
import pytest

from berth.client.fencing import StaleToken
from tests.fencing.targets import SqlTarget
from tests.fencing.transactions import (
    FAULTS,
    KINDS,
    LEVELS,
    WAIT_SECONDS,
    all_levels,
    refusal,
    servers,
    transaction,
)
from tests.support.apiserver import until


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def waits_for_a_lock(target: SqlTarget) -> bool:
    """Whether the database has a session that waits for another's lock."""
    with closing(target.connect()) as connection:
        cursor = connection.cursor()
        if isinstance(connection, psycopg.Connection):
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        else:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'innodb_row_lock_current_waits'")
        return int(cursor.fetchall()[0][-1]) > 0


def meets(
    target: SqlTarget, level: str, first: int, second: int, ends: Callable[[Any], None]
) -> Future[None]:
    """The second writer comes while the first is between its check and its write; the first then ends."""

    def write_second() -> None:
        with transaction(target, level) as connection:
            target.check(connection, second)
            target.insert(connection, second, "second")
            connection.commit()

    with threads() as pool, transaction(target, level) as connection:
        target.check(connection, first)
        writing = pool.submit(write_second)
        until(lambda: waits_for_a_lock(target), within_seconds=WAIT_SECONDS)
        target.insert(connection, first, "first")
        ends(connection)
    return writing


def commit(connection: Any) -> None:
    connection.commit()


def rollback(connection: Any) -> None:
    connection.rollback()


first_use = pytest.mark.parametrize("seen", [None, 7], ids=["first-use", "seen"])


@servers
@all_levels
@first_use
def test_a_newer_writer_waits_for_the_older(target: SqlTarget, level: str, seen: int | None) -> None:
    if seen is not None:
        target.write(seen, "seen")
    writing = meets(target, level, 7, 8, commit)
    if fault := writing.exception():
        assert isinstance(fault, FAULTS)  # its snapshot was too old; it tries again
        target.write(8, "second")
    assert target.effects()[-2:] == [(7, "first"), (8, "second")]


@servers
@all_levels
@first_use
def test_an_older_writer_waits_for_the_newer_and_is_refused(
    target: SqlTarget, level: str, seen: int | None
) -> None:
    if seen is not None:
        target.write(seen, "seen")
    writing = meets(target, level, 8, 7, commit)
    assert isinstance(writing.exception(), (StaleToken, *FAULTS))
    assert target.effects()[-1] == (8, "first")
    with pytest.raises(StaleToken):
        target.write(7, "again")


@servers
@all_levels
@first_use
def test_an_older_writer_goes_on_when_the_newer_gives_up(
    target: SqlTarget, level: str, seen: int | None
) -> None:
    if seen is not None:
        target.write(seen, "seen")
    writing = meets(target, level, 8, 7, rollback)
    if fault := writing.exception():
        assert isinstance(fault, FAULTS)
        target.write(7, "second")
    assert target.effects()[-1] == (7, "second")
    assert refusal(target, 6) == 7


@servers
@all_levels
def test_a_snapshot_from_before_the_newer_write_does_not_help_the_older(
    target: SqlTarget, level: str
) -> None:
    target.write(7, "mine")
    with transaction(target, level) as connection:
        connection.cursor().execute("SELECT * FROM effects")
        connection.cursor().execute("SELECT * FROM berth_fence")
        # At SERIALIZABLE, MariaDB's reader locks the newer one out instead.
        blocks = level == "SERIALIZABLE" and isinstance(connection, pymysql.Connection)
        if not blocks:
            target.write(8, "newer")
            with pytest.raises((StaleToken, *FAULTS)):
                target.check(connection, 7)
        else:
            target.check(connection, 7)
            connection.commit()
            target.write(8, "newer")
    assert target.effects() == [(7, "mine"), (8, "newer")]


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_writers_of_one_file_pass_one_at_a_time(target: SqlTarget, journal: str) -> None:
    with transaction(target) as first:
        first.execute(f"PRAGMA journal_mode = {journal}")
        target.check(first, 7)
        with (
            closing(target.connect(timeout=0)) as second,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            target.check(second, 8)
        target.insert(first, 7, "first")
        first.commit()
    target.write(8, "second")
    assert target.effects() == [(7, "first"), (8, "second")]


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_an_old_snapshot_of_a_file_cannot_become_a_writer(target: SqlTarget) -> None:
    target.write(7, "mine")
    with transaction(target) as old:
        old.execute("PRAGMA journal_mode = wal")
        old.execute("BEGIN")
        old.execute("SELECT * FROM effects").fetchall()
        target.write(8, "newer")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            target.check(old, 7)
    assert target.effects() == [(7, "mine"), (8, "newer")]


@pytest.mark.parametrize(
    ("address", "level"),
    [*itertools.product(KINDS[:2], LEVELS), ("sqlite", "")],
    indirect=["address"],
)
def test_whatever_the_interleaving_effects_are_in_the_order_of_tokens(target: SqlTarget, level: str) -> None:
    newest = itertools.count(1)

    def write_often(seed: int) -> int:
        """Writes with one token for too long, then with a new one; returns how often it was refused."""
        rng = random.Random(seed)
        token, refusals = next(newest), 0
        for step in range(12):
            if rng.random() < 0.4:
                token = next(newest)
            refusals += not wrote(target, level, token, f"{seed}.{step}")
        return refusals

    with threads() as pool:
        refusals = sum(pool.map(write_often, range(4)))
    tokens = [token for token, _ in target.effects()]
    assert tokens == sorted(tokens)
    assert len(tokens) + refusals == 48
    assert refusals > 0


def wrote(target: SqlTarget, level: str, token: int, text: str) -> bool:
    """Tries until the database gives an answer: whether the write took place."""
    for _ in range(200):
        try:
            with transaction(target, level) as connection:
                target.check(connection, token)
                target.insert(connection, token, text)
                connection.commit()
        except StaleToken:
            return False
        except FAULTS:
            continue
        return True
    raise AssertionError("no answer after 200 tries")
