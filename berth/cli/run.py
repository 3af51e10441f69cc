"""Runs a role as this process: log, Trio, exit status.

Promises that a fault of the role is one line that says what to do, with exit code 1, and that everything that
is wrong with the files that its options name is told at once, with exit code 2. Knows no role by name.
"""

import gc
import sys
from functools import partial

import trio

from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.lazy import import_named
from berth.cli.roles import Role
from berth.config import ConfigErrors
from berth.config.common import LogOptions
from berth.runtime.log import Logs
from berth.runtime.supervise import run_roles

GC_THRESHOLDS = (50_000, 20, 50)
"""A batch of 5,000 makes some ten thousand containers that all die with it: by default the collector looks
through them in vain, many times."""


def run_role(role: Role, options: LogOptions) -> int:
    """Serve until a signal ends it, and give the exit status. Raises Failure."""
    level = "warn" if options.log_level == "warning" else options.log_level
    logs = Logs(level, options.log_format, stream=sys.stderr)
    serve = partial(import_named(role.serve), options, logs=logs)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with logs.capturing_stdlib():
        try:
            return trio.run(partial(run_roles, {role.name: serve}, logger=logs.logger("berth")))
        except ConfigErrors as fault:
            raise Failure("\n".join(fault.problems), ExitCode.USAGE) from fault
        except Exception as fault:
            if not _is_for_people(fault):
                logs.logger("berth").error("role failed", role=role.name, exc_info=True)
            raise Failure(f"{role.name}: {_text(fault)}") from fault


def _is_for_people(fault: Exception) -> bool:
    """Our own faults say what is wrong and what to do; others are of use only with their traceback."""
    return type(fault).__module__.startswith("berth.") or isinstance(fault, OSError)


def _text(fault: Exception) -> str:
    return str(fault) if _is_for_people(fault) else f"{type(fault).__name__}: {fault}"
