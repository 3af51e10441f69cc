"""The SQL fence on real databases: what it accepts, and what it refuses."""

from contextlib import closing
from typing import Any

import psycopg
import psycopg.rows
import pymysql
import pymysql.cursors
import pytest
from pymysql.constants import CLIENT

from berth.client.fencing import NotInTransaction, StaleToken
from tests.fencing.targets import LEASE, SqlTarget
from tests.fencing.transactions import all_databases, refusal, transaction


@all_databases
def test_tokens_never_go_back(target: SqlTarget) -> None:
    for token in (7, 7, 8, 8, 2**31 - 1):
        target.write(token, "")
    assert [token for token, _ in target.effects()] == [7, 7, 8, 8, 2**31 - 1]
    assert refusal(target, 8) == 2**31 - 1
    assert refusal(target, 2**31 - 1) is None


@all_databases
def test_a_refused_transaction_writes_nothing(target: SqlTarget) -> None:
    target.write(8, "kept")
    with transaction(target) as connection:
        target.insert(connection, 7, "before the check")
        with pytest.raises(StaleToken, match="token 7 of lease default/payments is stale: 8 has been seen"):
            target.check(connection, 7)
    assert target.effects() == [(8, "kept")]


@all_databases
def test_a_token_that_was_rolled_back_was_not_seen(target: SqlTarget) -> None:
    with transaction(target) as connection:
        target.check(connection, 9)
        connection.rollback()
    assert refusal(target, 1) is None


@all_databases
def test_leases_have_nothing_to_do_with_each_other(target: SqlTarget) -> None:
    target.write(8, "")
    assert refusal(target, 1, "default/payments2") is None
    assert refusal(target, 1, "other/payments") is None


@all_databases
def test_a_mark_can_be_read(target: SqlTarget) -> None:
    with transaction(target) as connection:
        assert target.fence.highest(connection.cursor(), lease=LEASE) == 0
    target.write(5, "")
    with transaction(target) as connection:
        assert target.fence.highest(connection.cursor(), lease=LEASE) == 5


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("lease", "token", "error"),
    [
        (LEASE, 0, ValueError),
        (LEASE, -1, ValueError),
        (LEASE, 2**31, ValueError),
        (LEASE, True, TypeError),
        (LEASE, "7", TypeError),
        ("payments", 7, ValueError),
        ("default/Payments", 7, ValueError),
        ("default/payments ", 7, ValueError),
    ],
)
def test_what_is_no_lease_or_no_token_is_refused(
    target: SqlTarget, lease: str, token: Any, error: type[Exception]
) -> None:
    with transaction(target) as connection, pytest.raises(error):
        target.fence.check(connection.cursor(), lease=lease, token=token)


@all_databases
def test_the_table_itself_takes_no_token_out_of_range(target: SqlTarget) -> None:
    for token in (0, -1, 2**31):
        with transaction(target) as connection, pytest.raises(Exception, match=r"(?i)check|range|constraint"):
            connection.cursor().execute(target.fence.RAISE, (LEASE, token))
    with transaction(target) as connection:
        assert target.fence.highest(connection.cursor(), lease=LEASE) == 0


@pytest.mark.parametrize("address", ["mariadb"], indirect=True)
def test_keys_differ_by_case_and_by_trailing_blanks(target: SqlTarget) -> None:
    with transaction(target) as connection:
        cursor = connection.cursor()
        for token, lease in enumerate(("a/b", "A/b", "a/b "), start=1):
            cursor.execute(target.fence.RAISE, (lease, token))
        assert target.fence.highest(cursor, lease="a/b") == 1


@pytest.mark.parametrize(
    ("address", "autocommit"),
    [
        ("postgres", {"autocommit": True}),
        ("mariadb", {"autocommit": True}),
        ("sqlite", None),
    ],
    indirect=["address"],
)
def test_a_check_outside_a_transaction_is_refused(
    target: SqlTarget, autocommit: dict[str, Any] | None
) -> None:
    with closing(target.connect(**(autocommit or {}))) as connection:
        if autocommit is None:
            connection.isolation_level = None
        with pytest.raises(NotInTransaction, match="begin one"):
            target.check(connection, 7)
        begin = "BEGIN IMMEDIATE" if autocommit is None else "START TRANSACTION"
        connection.cursor().execute(begin)
        target.check(connection, 7)
        connection.rollback()


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("postgres", {"row_factory": psycopg.rows.dict_row}),
        ("mariadb", {"cursorclass": pymysql.cursors.DictCursor}),
        # Affected rows are counted otherwise.
        ("mariadb", {"client_flag": CLIENT.FOUND_ROWS}),
    ],
    indirect=["address"],
)
def test_it_does_not_matter_how_a_driver_tells_rows(target: SqlTarget, options: dict[str, Any]) -> None:
    for token in (7, 7, 8):
        with closing(target.connect(**options)) as connection:
            target.check(connection, token)
            connection.commit()
    with closing(target.connect(**options)) as connection, pytest.raises(StaleToken):
        target.check(connection, 7)
