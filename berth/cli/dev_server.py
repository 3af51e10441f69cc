"""What `berth dev` does: files for a server of one's own, the API server on them, and a word to its user.

Promises that nothing of it is readable by other users and that a second start finds what the first one made.
It is for trying things out: anybody with the key file is an admin.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from berth.cli.dev import DevOptions
from berth.cli.own_server import Key, ensure_keys, server_options, server_url
from berth.cli.roles import Role
from berth.cli.run import run_role
from berth.roles.apiserver.app import serve as serve_api
from berth.runtime.clock import SystemClock
from berth.runtime.devca import DevFiles, ensure_dev_files
from berth.runtime.log import Logs
from berth.runtime.supervise import Handle

ADMIN = Key("dev", "admin", file="admin.key")

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
            ensure_keys(directory, ADMIN)
        except OSError as fault:
            raise DataDirUnusable(
                f"{directory} cannot be used: {fault.strerror}; say another with --data-dir"
            ) from fault

        class Announcing:
            """Passes the handle on, and tells the user where and how."""

            def started(self, handle: Handle) -> None:
                print(_welcome(options, directory, files, handle.addresses[0]), flush=True)
                task_status.started(handle)

        announcing: Any = Announcing()
        api_options = server_options(
            directory,
            files,
            listen_addr=options.listen_addr,
            metrics_addr=options.metrics_addr,
            ephemeral=options.ephemeral,
        )
        await serve_api(api_options, logs=logs, task_status=announcing)


@contextmanager
def _directory(options: DevOptions) -> Iterator[Path]:
    if options.ephemeral:
        with tempfile.TemporaryDirectory(prefix="berth-dev-") as directory:
            yield Path(directory)
        return
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    yield (options.data_dir or Path(home) / "berth" / "dev").absolute()


def _welcome(options: DevOptions, directory: Path, files: DevFiles, address: str) -> str:
    return _WELCOME.format(
        url=server_url(address),
        leases="in memory" if options.ephemeral else directory / "leases.db",
        ca=files.ca,
        key=directory / ADMIN.file,
        after="" if options.ephemeral else "; the leases stay",
    )
