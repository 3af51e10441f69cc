"""The fence of SQL databases: the highest token of each lease, checked in the transaction that writes.

Owns the table and its statements, for PostgreSQL, MariaDB and SQLite. Promises that no transaction with a
lower token commits after one with a higher, at any isolation level: the check locks the lease's row until the
caller's transaction ends, so that writers of one lease pass one at a time, and no wait comes between check
and write. It counts no affected rows, for drivers disagree about them, and asks no clock. It neither begins
nor ends transactions and imports no driver.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from berth.client.fencing.errors import NotInTransaction, StaleToken
from berth.client.fencing.stamp import Stamp, judged_lease


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    def execute(self, operation: str, parameters: Sequence[Any] = ..., /) -> Any: ...

    def fetchall(self) -> Sequence[Any]: ...


class SqlFence:
    """The statements of one database, with the parameter marks of its drivers. Use a subclass."""

    CREATE: str
    """The table, for your migrations."""
    RAISE: str
    """Takes lease and token. Enters the token if it is the highest, and locks the row either way."""
    CONFIRM: str
    """Takes the lease. Highest token, as this transaction must see it, and whether there is a transaction."""
    HIGHEST: str
    """Takes the lease. Highest token that has been committed; no row before the first. Locks nothing."""

    def create(self, cursor: Cursor) -> None:
        """Makes the table `berth_fence` where it is missing.

        PostgreSQL may refuse one of two that make it at once, by a unique violation: then it is there.
        """
        cursor.execute(self.CREATE)

    def check(self, cursor: Cursor, *, lease: str, token: int) -> None:
        """Remembers `token`, and lets the transaction of `cursor` go on if no higher one was seen.

        Call it before the writes, and let its errors roll the transaction back: StaleToken when the lease is
        lost, NotInTransaction when there is no transaction, ValueError for what is no lease or no token, and
        the driver's own, such as a lock timeout or a serialization failure, after which the transaction may
        be tried anew. Other writers of the lease wait until the transaction ends.
        """
        stamp = Stamp.of(lease, token)
        cursor.execute(self.RAISE, stamp)
        cursor.execute(self.CONFIRM, (stamp.lease,))
        highest, in_transaction = self._confirmed(cursor)
        if not in_transaction:
            raise NotInTransaction(
                "the fencing check must be in the transaction of the writes: begin one, or end autocommit"
            )
        if highest > token:
            raise StaleToken(lease, token=token, highest=highest)

    def highest(self, cursor: Cursor, *, lease: str) -> int:
        """The highest token of `lease` that has been committed, 0 before the first. It may rise any time."""
        cursor.execute(self.HIGHEST, (judged_lease(lease),))
        rows = cursor.fetchall()
        return _values(rows[0])[0] if rows else 0

    def _confirmed(self, cursor: Cursor) -> tuple[int, bool]:
        highest, in_transaction = _values(cursor.fetchall()[0])
        return highest, bool(in_transaction)


class PostgresFence(SqlFence):
    """PostgreSQL 13 or newer; psycopg and others with `%s`."""

    # Bytewise order, which no upgrade of the system's collations can break.
    CREATE = """\
CREATE TABLE IF NOT EXISTS berth_fence (
    lease text COLLATE "C" PRIMARY KEY,
    token integer NOT NULL CHECK (token > 0)
)"""
    RAISE = """\
INSERT INTO berth_fence AS seen (lease, token) VALUES (%s, %s)
ON CONFLICT (lease) DO UPDATE SET token = greatest(seen.token, excluded.token)"""
    # Where each statement is a transaction of its own, this one has written nothing and has no id.
    CONFIRM = """\
SELECT token, pg_current_xact_id_if_assigned() IS NOT NULL AS in_transaction
FROM berth_fence WHERE lease = %s"""
    HIGHEST = "SELECT token FROM berth_fence WHERE lease = %s"


class MariadbFence(SqlFence):
    """MariaDB 10.6 or newer; PyMySQL and others with `%s`."""

    # VARBINARY: other types ignore trailing blanks, or case. BIGINT: INT cuts what is out of range in lax SQL
    # modes. InnoDB, by name: other engines have no transactions.
    CREATE = """\
CREATE TABLE IF NOT EXISTS berth_fence (
    lease varbinary(253) NOT NULL PRIMARY KEY,
    token bigint NOT NULL CHECK (token BETWEEN 1 AND 2147483647)
) ENGINE=InnoDB"""
    RAISE = """\
INSERT INTO berth_fence (lease, token) VALUES (%s, %s)
ON DUPLICATE KEY UPDATE token = greatest(token, VALUES(token))"""
    # A plain SELECT would show the transaction's snapshot, which may be older than the row.
    CONFIRM = "SELECT token, @@in_transaction FROM berth_fence WHERE lease = %s FOR UPDATE"
    HIGHEST = "SELECT token FROM berth_fence WHERE lease = %s"


class SqliteFence(SqlFence):
    """SQLite 3.37 or newer, by Python's own driver. The lock is the whole file's, as for every write."""

    CREATE = """\
CREATE TABLE IF NOT EXISTS berth_fence (
    lease TEXT PRIMARY KEY,
    token INTEGER NOT NULL CHECK (token BETWEEN 1 AND 2147483647)
) STRICT, WITHOUT ROWID"""
    RAISE = """\
INSERT INTO berth_fence (lease, token) VALUES (?, ?)
ON CONFLICT (lease) DO UPDATE SET token = max(token, excluded.token)"""
    CONFIRM = "SELECT token FROM berth_fence WHERE lease = ?"
    HIGHEST = CONFIRM

    def _confirmed(self, cursor: Cursor) -> tuple[int, bool]:
        # SQL cannot tell; the driver can.
        in_transaction = bool(cast("Any", cursor).connection.in_transaction)
        return _values(cursor.fetchall()[0])[0], in_transaction


def _values(row: Any) -> tuple[Any, ...]:
    """A row's values in order, whatever kind of rows the caller's cursor makes."""
    if isinstance(row, Mapping):
        return tuple(cast("Mapping[str, Any]", row).values())
    return tuple(row)
