"""Transactions on the SQL targets: the databases and isolation levels, and how each is asked for."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import psycopg.rows
import pymysql
import pymysql.cursors
import pytest

from berth.client.fencing import StaleToken
from tests.fencing.targets import LEASE, SqlTarget

FAULTS = (psycopg.OperationalError, pymysql.OperationalError, sqlite3.OperationalError)
WAIT_SECONDS = 20.0
KINDS = ("postgres", "mariadb", "sqlite")
# `SET TRANSACTION` text of every level at which writers may work.
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

all_databases = pytest.mark.parametrize("address", KINDS, indirect=True)
servers = pytest.mark.parametrize("address", KINDS[:2], indirect=True)
all_levels = pytest.mark.parametrize("level", LEVELS)


@contextmanager
def transaction(target: SqlTarget, level: str = "") -> Iterator[Any]:
    """A connection with a transaction of this isolation level; what is not committed is rolled back."""
    with closing(target.connect()) as connection:
        if level:
            set_level(connection, level)
        yield connection


def set_level(connection: Any, level: str) -> None:
    if isinstance(connection, psycopg.Connection):
        connection.isolation_level = psycopg.IsolationLevel[level.replace(" ", "_")]
    elif isinstance(connection, pymysql.Connection):
        connection.cursor().execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")


def refusal(target: SqlTarget, token: int, lease: str = LEASE) -> int | None:
    """The highest token that was seen when this one is refused; None when it is accepted, and rolled back."""
    with transaction(target) as connection:
        try:
            target.check(connection, token, lease)
        except StaleToken as stale:
            return stale.highest
    return None
