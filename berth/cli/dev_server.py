"""What `berth dev` does: files for a server of one's own, the API server on them, and a word to its user.

Promises that nothing of it is readable by other users and that a second start finds what the first one made.
It is for trying things out: anybody with the key file is an admin.
"""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from berth.cli.dev import DevOptions
from berth.cli.roles import Role
from berth.cli.run import run_role
from berth.config import Secret
from berth.roles.apiserver.app import serve as serve_api
from berth.roles.apiserver.options import ApiserverOptions
from berth.runtime.clock import SystemClock
from berth.runtime.devca import DevFiles, ensure_dev_files
from berth.runtime.log import Logs
from berth.runtime.supervise import Handle

TENANT = "dev"

_WELCOME = """\
berth dev serves the lease API at {url}
leases: {leases}

In another terminal:

  export BERTH_API_SERVER={url}
  export BERTH_CA_FILE={ca}
  export BERTH_API_KEY_FILE={key}

and then, for a start:

  berth lease acquire demo --ttl 5m
  berth lease list
  berth lease release demo

Ctrl+C ends it{after}.
"""


class DataDirUnusable(Exception):
    """The directory cannot be used; the text says what to do."""


def run(options: DevOptions) -> int:
    """Serve until a signal ends it, and give the exit status."""
    role = Role("dev", "", options="", serve="berth.cli.dev_server:serve")
    return run_role(role, options)


async def serve(
    options: DevOptions, *, logs: Logs, task_status: trio.TaskStatus[Handle] = trio.TASK_STATUS_IGNORED
) -> None:
    """The API server on files of its own; started once it serves and has said so."""
    with _directory(options) as directory:
        try:
            files = ensure_dev_files(directory, clock=SystemClock())
            key_file = _ensure_key(directory)
        except OSError as fault:
            raise DataDirUnusable(
                f"{directory} cannot be used: {fault.strerror}; say another with --data-dir"
            ) from fault

        class Announcing:
            """Passes the handle on, and tells the user where and how."""

            def started(self, handle: Handle) -> None:
                print(_welcome(options, directory, files, key_file, handle.addresses[0]), flush=True)
                task_status.started(handle)

        announcing: Any = Announcing()
        await serve_api(_api_options(options, directory, files), logs=logs, task_status=announcing)


@contextmanager
def _directory(options: DevOptions) -> Iterator[Path]:
    if options.ephemeral:
        with tempfile.TemporaryDirectory(prefix="berth-dev-") as directory:
            yield Path(directory)
        return
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    yield (options.data_dir or Path(home) / "berth" / "dev").absolute()


def _ensure_key(directory: Path) -> Path:
    """The admin key's file, beside it the server's list of keys; both made once."""
    key_file, keys_file = directory / "admin.key", directory / "api-keys"
    if not key_file.exists():
        _write_private(key_file, secrets.token_urlsafe(32) + "\n")
    digest = hashlib.sha256(key_file.read_text().strip().encode()).hexdigest()
    _write_private(keys_file, f"# made by berth dev\n{TENANT}:{digest}:admin\n")
    return key_file


def _write_private(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
    new.replace(file)


def _api_options(options: DevOptions, directory: Path, files: DevFiles) -> ApiserverOptions:
    store: dict[str, Any] = {"store_backend": "mem"}
    if not options.ephemeral:
        dsn = Secret(str(directory / "leases.db"))
        store = {"store_backend": "sql", "sql_driver": "sqlite", "sql_dsn": dsn}
    return ApiserverOptions(
        listen_addr=options.listen_addr,
        metrics_addr=options.metrics_addr,
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        auth_mode="static-keys",
        api_keys_file=directory / "api-keys",
        **store,
    )


def _welcome(options: DevOptions, directory: Path, files: DevFiles, key_file: Path, address: str) -> str:
    # The certificate is for localhost whatever address was bound.
    url = f"https://localhost:{address.rpartition(':')[2]}"
    return _WELCOME.format(
        url=url,
        leases="in memory" if options.ephemeral else directory / "leases.db",
        ca=files.ca,
        key=key_file,
        after="" if options.ephemeral else "; the leases stay",
    )
