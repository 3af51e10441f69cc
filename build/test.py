#!/usr/bin/env python3
"""Sets up the test environment in .venv and runs every check: `python3 build/test.py [PYTEST-ARGUMENT…]`.

Needs Python 3.11 to 3.13 and pip. What else it could use and cannot get, it says and skips.
"""

import os
import subprocess
import sys

import debian
import environment


def main() -> int:
    environment.ensure("test")
    debian.install_databases(without="tests on real databases will be skipped")
    failed = [name for name, command in checks(sys.argv[1:]) if not passes(name, command)]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall checks passed", flush=True)
    return 1 if failed else 0


def checks(pytest_arguments: list[str]) -> list[tuple[str, list[str]]]:
    """Name and command of every check; with arguments for pytest, pytest alone."""
    if pytest_arguments:
        return [("pytest", ["pytest", *pytest_arguments])]
    return [
        ("lint", ["ruff", "check"]),
        ("format", ["ruff", "format", "--check"]),
        ("types", ["pyright"]),
        # A file's tests share servers, so a file stays on one of the two workers.
        ("pytest", ["pytest", "--numprocesses", "2", "--dist", "loadfile"]),
    ]


def passes(name: str, command: list[str]) -> bool:
    print(f"\n== {name}", flush=True)
    path = f"{environment.BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    environ = {**os.environ, "PATH": path}
    program = str(environment.BIN / command[0])
    return (
        subprocess.run([program, *command[1:]], cwd=environment.ROOT, env=environ, check=False).returncode
        == 0
    )


if __name__ == "__main__":
    raise SystemExit(main())
