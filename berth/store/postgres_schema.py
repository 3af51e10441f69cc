"""The schema of a PostgreSQL database, and which database it is.

Owns the numbered migrations under an advisory lock, the taking over of a table of skaphos/berth, and the row
that remembers the server and its timeline. Promises that tables which are neither berth's nor
skaphos/berth's are refused untouched, and that no connection is used before it is known whether its server
is the one of before.
"""

from berth.runtime.log import Logger
from berth.store.api import StoreFault, StoreRefused
from berth.store.doubts import Known
from berth.store.postgres_driver import Postgres
from berth.store.schema import Migrate, Migration, missing_migrations, refuse_foreign

MIGRATE_SECONDS = 25.0

_LOCK = 0x42525448  # "BRTH"

_REFERENCE = {
    "namespace": "text",
    "name": "text",
    "holder": "text",
    "ttl_ms": "bigint",
    "acquired_at": "timestamp with time zone",
    "renewed_at": "timestamp with time zone",
    "fencing_token": "integer",
}

_COLUMNS = """SELECT column_name, data_type FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name = $1"""

# The timeline grows with every promotion and every recovery to a point in time.
_IDENTITY = """SELECT system_identifier::text || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
    FROM pg_control_system()"""

_GONE_BACK = """UPDATE berth_meta SET
        incarnation = greatest(incarnation, $3) + 1,
        changed_at = statement_timestamp(),
        ttl_max_us = greatest(ttl_max_us, $2),
        identity = $1
    WHERE incarnation < $3 OR (incarnation = $3 AND (
        ($6::bigint > 0 AND NOT EXISTS (SELECT FROM berth_leases
            WHERE namespace = $4 AND name = $5 AND version >= $6))
        OR EXISTS (SELECT FROM berth_sessions WHERE id = $7 AND version < $8)))"""

_RECOGNIZE = """UPDATE berth_meta SET
        incarnation = incarnation + CASE WHEN identity = '' THEN 0 ELSE $2::integer END,
        changed_at = CASE WHEN identity = '' OR $2 = 0 THEN changed_at ELSE statement_timestamp() END,
        ttl_max_us = greatest(ttl_max_us, $3),
        identity = $1
    WHERE identity <> $1"""


async def bring_up_to_date(db: Postgres, migrate: Migrate, known: list[Migration]) -> None:
    """Apply what is missing (`auto`), or refuse a schema that lacks something (`off`).

    Raises StoreRefused, StoreFault.
    """
    if migrate == "auto":
        await db.execute(
            f"SET lock_timeout = '10s'; SET statement_timeout = '20s'; SELECT pg_advisory_lock({_LOCK})",
            seconds=MIGRATE_SECONDS,
        )
    applied = await _applied(db)
    refuse_foreign(applied, known)
    for migration in missing_migrations(applied, known, migrate):
        await db.execute(
            f"""BEGIN;\n{migration.sql}
            INSERT INTO berth_schema VALUES ({migration.version}, '{migration.name}', '{migration.checksum}');
            COMMIT""",
            seconds=MIGRATE_SECONDS,
        )


async def _applied(db: Postgres) -> dict[int, str]:
    """The checksum of each migration that the database has had; none for a new one."""
    if await db.fetch(_COLUMNS, "berth_schema", writes=False):
        return dict(
            await db.fetch("SELECT version, checksum FROM berth_schema ORDER BY version", writes=False)
        )
    found = dict(await db.fetch(_COLUMNS, "berth_leases", writes=False))
    if found and {name: found.get(name) for name in _REFERENCE} != _REFERENCE:
        raise StoreRefused(
            "it has a table berth_leases that neither this berth nor skaphos/berth has made: "
            "name another database"
        )
    return {}


async def warn_of_losses(db: Postgres, logger: Logger) -> None:
    """Say so where the server is set up to forget what it has committed when its machine crashes."""
    for setting in ("fsync", "full_page_writes"):
        ((value,),) = await db.fetch("SELECT current_setting($1)", setting, writes=False)
        if value != "on":
            logger.warning(f"{setting} is not on: a crash of the database may lose leases")


async def recognize(db: Postgres, *, lossy: bool, known: Known, ttl_max_us: int) -> None:
    """Note which server this is. Where it lacks what this process knows it to have had, or is another than
    before, and that may have lost writes, say so in the database.

    `ttl_max_us` is the longest ttl that this process knows to have been granted.
    """
    try:
        ((identity,),) = await db.fetch(_IDENTITY, writes=False)
    except StoreFault:
        if not db.sound:
            raise
        identity = ""  # a service that hides its timeline: only its content can be recognized
    if known != Known():
        await db.fetch(_GONE_BACK, identity, ttl_max_us, *known, writes=True)
    if identity:
        await db.fetch(_RECOGNIZE, identity, int(lossy), ttl_max_us, writes=True)
