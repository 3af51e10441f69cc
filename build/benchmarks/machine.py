"""What was measured on, and with which versions."""

import os
import platform
import re
import sqlite3
import subprocess
from pathlib import Path

from berth.version import VERSION

from .stage import CORES, LOAD_CORE, ROOT, SERVER_CORE

QUIET_LOAD = 0.5


# What to ask a peer for its version.
_VERSIONS = {"redis-server": "--version", "etcd": "--version", "wrk": "-v"}


def is_quiet() -> bool:
    """Whether nothing else runs, as far as the last minute tells."""
    return os.getloadavg()[0] <= QUIET_LOAD


def facts() -> dict[str, str]:
    """By name, for the page."""
    return {
        "CPU": f"{_cpu()}, {len(CORES)} cores; servers on core {SERVER_CORE}, load on core {LOAD_CORE}",
        "Memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "Kernel": platform.release(),
        "File system": _file_system(),
        "Load average": f"{os.getloadavg()[0]:.2f} before the start",
        "berth": f"{VERSION}, commit {_commit()}",
        "Python": f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        **{program: _version(program, flag) for program, flag in _VERSIONS.items()},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system() -> str:
    """The type of the one that the stores are on: of the longest mount point above the sources."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if ROOT.is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1]


def _commit() -> str:
    ended = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return ended.stdout.strip() or "unknown"


def _version(program: str, flag: str) -> str:
    try:
        ended = subprocess.run([program, flag], capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return "not installed"
    found = re.search(r"\d+\.\d+[.\d]*", ended.stdout or ended.stderr)
    return found[0] if found else "unknown"
