"""The schema of a MariaDB database, and which server it is on.

Owns the numbered migrations under a lock of the server's, the taking over of a table of skaphos/berth, and
the row that remembers the server. MariaDB has no transactions for tables: a migration that broke off is
begun again, and what it had done by then is left as it is. Promises that tables which are neither berth's
nor skaphos/berth's are refused untouched, and that no connection is used before it is known whether its
server is the one of before.
"""

from typing import Any

from berth.runtime.log import Logger
from berth.store.api import StoreFault, StoreRefused
from berth.store.doubts import Known
from berth.store.mariadb_driver import Mariadb, code
from berth.store.schema import Migrate, Migration, missing_migrations, refuse_foreign

MIGRATE_SECONDS = 25.0

_SCHEMA = """CREATE TABLE IF NOT EXISTS berth_schema (version int NOT NULL PRIMARY KEY,
    name varchar(100) NOT NULL, checksum char(64) NOT NULL) ENGINE = InnoDB"""
_DONE_BEFORE = {1050, 1060}  # the table, or the column, is there
_REFERENCE = {"namespace", "name", "holder", "ttl_ms", "acquired_at", "renewed_at", "fencing_token"}

# In a set of replicas each server has its own id, and with MySQL a uuid in its data. MariaDB's server_uid is
# made from the network card, which a container changes with every start.
_IDENTITY = """SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_id', 'gtid_domain_id')"""

_GONE_BACK = """UPDATE berth_meta SET
        incarnation = GREATEST(incarnation, {known.incarnation}) + 1,
        changed_at = UTC_TIMESTAMP(6),
        ttl_max_us = GREATEST(ttl_max_us, {ttl_max_us}),
        identity = {identity}
    WHERE incarnation < {known.incarnation} OR (incarnation = {known.incarnation} AND (
        ({known.lease_version} > 0 AND NOT EXISTS (SELECT 1 FROM berth_leases
            WHERE namespace = {namespace} AND name = {name} AND version >= {known.lease_version}))
        OR EXISTS (SELECT 1 FROM berth_sessions
            WHERE id = {session} AND version < {known.session_version})))"""

# What needs the identity of before comes first.
_RECOGNIZE = """UPDATE berth_meta SET
        incarnation = incarnation + IF(identity = '', 0, {lossy}),
        changed_at = IF(identity = '' OR {lossy} = 0, changed_at, UTC_TIMESTAMP(6)),
        ttl_max_us = GREATEST(ttl_max_us, {ttl_max_us}),
        identity = {identity}
    WHERE identity <> {identity}"""

_ON_DISK = """SHOW GLOBAL VARIABLES WHERE Variable_name IN
    ('sync_binlog', 'innodb_flush_log_at_trx_commit', 'log_bin')"""


async def bring_up_to_date(db: Mariadb, migrate: Migrate, known: list[Migration]) -> None:
    """Apply what is missing (`auto`), or refuse a schema that lacks something (`off`).

    Raises StoreRefused, StoreFault.
    """
    if migrate == "auto":
        await db.call(
            "SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, max_statement_time = 20"
            if db.is_mariadb
            else "SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 10",
            writes=False,
        )
        (((got,),),) = await db.call(
            "SELECT GET_LOCK('berth_schema', 20)", writes=False, seconds=MIGRATE_SECONDS
        )
        if got != 1:
            raise StoreRefused("another server is bringing its schema up to date: start again in a while")
    applied = await _applied(db)
    refuse_foreign(applied, known)
    for migration in missing_migrations(applied, known, migrate):
        await db.call(_SCHEMA, writes=True)
        for statement in _statements(migration.sql):
            await _apply(db, statement)
        row = f"({migration.version}, '{migration.name}', '{migration.checksum}')"
        await db.call(f"INSERT INTO berth_schema VALUES {row}", writes=True)


def _statements(script: str) -> list[str]:
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [each for each in "\n".join(lines).split(";\n") if each.strip()]


async def _apply(db: Mariadb, statement: str) -> None:
    try:
        await db.call(statement, writes=True, seconds=MIGRATE_SECONDS)
    except StoreFault as fault:
        if code(fault.__cause__) not in _DONE_BEFORE:
            raise


async def _columns(db: Mariadb, table: str) -> set[str]:
    (rows,) = await db.call(
        f"""SELECT column_name FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = '{table}'""",
        writes=False,
    )
    return {name for (name,) in rows}


async def _applied(db: Mariadb) -> dict[int, str]:
    """The checksum of each migration that the database has had; none for a new one."""
    if await _columns(db, "berth_schema"):
        (rows,) = await db.call("SELECT version, checksum FROM berth_schema ORDER BY version", writes=False)
        return dict(rows)
    found = await _columns(db, "berth_leases")
    if found and not found >= _REFERENCE:
        raise StoreRefused(
            "it has a table berth_leases that neither this berth nor skaphos/berth has made: "
            "name another database"
        )
    return {}


async def recognize(db: Mariadb, *, lossy: bool, known: Known, ttl_max_us: int) -> None:
    """Note which server this is. Where it lacks what this process knows it to have had, or is another than
    before, and that may have lost writes, say so in the database.

    `ttl_max_us` is the longest ttl that this process knows to have been granted.
    """
    (rows,) = await db.call(_IDENTITY, writes=False)
    identity = db.quoted("/".join(f"{name}={value}" for name, value in sorted(rows)))
    if known != Known():
        names = {each: db.quoted(getattr(known, each)) for each in ("namespace", "name", "session")}
        await db.call(
            _GONE_BACK.format(known=known, ttl_max_us=ttl_max_us, identity=identity, **names), writes=True
        )
    text = _RECOGNIZE.format(lossy=int(lossy), ttl_max_us=ttl_max_us, identity=identity)
    await db.call(text, writes=True)


async def warn_of_losses(db: Mariadb, logger: Logger) -> None:
    """Say so where the server is set up to forget what it has committed when its machine crashes."""
    (rows,) = await db.call(_ON_DISK, writes=False)
    found: dict[str, Any] = dict(rows)
    if found.get("innodb_flush_log_at_trx_commit") != "1":
        logger.warning("innodb_flush_log_at_trx_commit is not 1: a crash of the database may lose leases")
    if found.get("log_bin") == "ON" and found.get("sync_binlog") != "1":
        logger.warning("sync_binlog is not 1: a crash of the database may lose leases")
