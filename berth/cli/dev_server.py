"""What `berth dev` does: files for a server of one's own, the API server on them, and a word to its user.

Promises that nothing of it is readable by other users and that a second start finds what the first one made.
It is for trying things out: anybody with the key file is an admin.
"""

import fcntl
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from berth.cli.dev import DevOptions
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.own_server import Key, KeyUnusable, ensure_keys, server_options, server_url
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
    """Serve until a signal ends it, and give the exit status. Raises Failure."""
    if not options.ephemeral:
        options = replace(options, data_dir=_data_dir(options.data_dir, os.environ))
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
            raise _unusable(directory, fault) from fault
        except KeyUnusable as fault:
            raise DataDirUnusable(str(fault)) from fault

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


def _data_dir(given: Path | None, env: Mapping[str, str]) -> Path:
    """The directory that was given, else the one of the XDG rules, by which a relative one does not count."""
    try:
        if given is not None:
            return given.absolute()
    except FileNotFoundError:
        raise Failure("the working directory is gone; say an absolute --data-dir", ExitCode.USAGE) from None
    for base in (Path(env.get("XDG_DATA_HOME", "")), Path(env.get("HOME", "")) / ".local" / "share"):
        if base.is_absolute():
            return base / "berth" / "dev"
    raise Failure("HOME says no directory to keep files in; say one with --data-dir", ExitCode.USAGE)


@contextmanager
def _directory(options: DevOptions) -> Iterator[Path]:
    if options.data_dir is None:
        with tempfile.TemporaryDirectory(prefix="berth-dev-") as directory:
            yield Path(directory)
        return
    descriptor = _locked(options.data_dir)
    try:
        yield options.data_dir
    finally:
        os.close(descriptor)


def _locked(directory: Path) -> int:
    """A descriptor of the directory, which keeps other `berth dev`s out until it is closed."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise _unusable(directory, fault) from fault
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataDirUnusable(
            f"another berth dev uses {directory}; use that one, or start this one with its own"
            " --data-dir and --listen-addr"
        ) from None
    return descriptor


def _unusable(directory: Path, fault: OSError) -> DataDirUnusable:
    return DataDirUnusable(f"{directory} cannot be used: {fault.strerror}; say another with --data-dir")


def _welcome(options: DevOptions, directory: Path, files: DevFiles, address: str) -> str:
    return _WELCOME.format(
        url=server_url(address),
        leases="in memory" if options.ephemeral else directory / "leases.db",
        ca=shlex.quote(str(files.ca)),
        key=shlex.quote(str(directory / ADMIN.file)),
        after="" if options.ephemeral else "; the leases stay",
    )
