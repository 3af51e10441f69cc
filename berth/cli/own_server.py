"""An API server of one's own, for trying things out: its keys and its options, on files in one directory.

Promises that only their owner can read the keys, and that a second start finds what the first one made.
`devca` makes the certificates; `berth dev` and `berth demo` serve what is described here.
"""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from berth.config import Secret
from berth.roles.apiserver.options import ApiserverOptions
from berth.runtime.devca import DevFiles
from berth.wire.shapes import Role

_KEYS = "api-keys"


class Key(NamedTuple):
    """A key that the server knows: whose it is, what it may, and the name of the file that holds it."""

    tenant: str
    role: Role
    file: str


class KeyUnusable(Exception):
    """A key's file holds no key; the text names it and says what to do."""


def ensure_keys(directory: Path, *keys: Key) -> None:
    """The file of each key, made once, and the server's list of them. Raises OSError and KeyUnusable."""
    lines = ["# made by berth: the keys' own files are beside this one"]
    for key in keys:
        file = directory / key.file
        if not file.exists():
            _write_private(file, secrets.token_urlsafe(32) + "\n")
        text = file.read_bytes().strip()
        if not text or not text.isascii():
            raise KeyUnusable(f"{file} holds no key: remove it, and a new one is made")
        digest = hashlib.sha256(text).hexdigest()
        lines.append(f"{key.tenant}:{digest}:{key.role}")
    _write_private(directory / _KEYS, "\n".join(lines) + "\n")


def server_options(
    directory: Path, tls: DevFiles, *, listen_addr: str, metrics_addr: str = "", ephemeral: bool = False
) -> ApiserverOptions:
    """The API server on the directory's keys, with its leases in SQLite there, or in memory."""
    store: dict[str, Any] = {"store_backend": "mem"}
    if not ephemeral:
        dsn = Secret(str(directory / "leases.db"))
        store = {"store_backend": "sql", "sql_driver": "sqlite", "sql_dsn": dsn}
    return ApiserverOptions(
        listen_addr=listen_addr,
        metrics_addr=metrics_addr,
        tls_cert_file=tls.cert,
        tls_key_file=tls.key,
        auth_mode="static-keys",
        api_keys_file=directory / _KEYS,
        **store,
    )


def server_url(address: str) -> str:
    """Where a server that was bound to `address` (a URL) is asked: the certificate is for localhost."""
    return f"https://localhost:{address.rpartition(':')[2]}"


def _write_private(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
    new.replace(file)
