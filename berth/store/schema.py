"""Numbered migrations: what they are, and which of them a database still lacks.

Owns the files under `migrations/` and the judgement of what a database says it has had. Promises that a
schema which is newer than this berth, or not made by these migrations, is refused. Does not speak to any
database.
"""

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Literal, NamedTuple

from berth.store.api import StoreRefused

Migrate = Literal["auto", "off"]
Dialect = Literal["mariadb", "postgres", "sqlite"]


class Migration(NamedTuple):
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return sha256(self.sql.encode()).hexdigest()


def known_migrations(dialect: Dialect) -> list[Migration]:
    """The migrations of this berth, in order: version n is the n-th."""
    folder = files("berth.store") / "migrations" / dialect
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return [
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in found
    ]


def refuse_foreign(applied: Mapping[int, str], known: list[Migration]) -> None:
    """Raises StoreRefused where what was applied (checksums by version) is not the start of what is known."""
    if applied and max(applied) > len(known):
        raise StoreRefused(
            f"it was written by a newer berth (schema {max(applied)}; this one knows {len(known)}): "
            "use that version or a later one"
        )
    for migration in known[: len(applied)]:
        if applied.get(migration.version) != migration.checksum:
            raise StoreRefused(
                f"its schema is not this berth's (migration {migration.name} differs): "
                "use the version that wrote it, or restore a backup"
            )


def missing_migrations(
    applied: Mapping[int, str], known: list[Migration], migrate: Migrate
) -> list[Migration]:
    """What has to be applied yet. Raises StoreRefused where something has, and `migrate` is off."""
    missing = known[len(applied) :]
    if missing and migrate == "off":
        raise StoreRefused(
            f"its schema is at {len(applied)} and must be at {len(known)}: "
            "start once with --sql-migrate auto, after a backup"
        )
    return missing
