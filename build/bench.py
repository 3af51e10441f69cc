#!/usr/bin/env python3
"""Measures berth beside Redis, etcd and databases on this machine: `python3 build/bench.py [MEASURE…]`.

Sets up berth in .venv, installs the peers as root from Debian's packages, starts and stops everything by
itself on loopback ports, and writes docs/benchmarks.md. With names of measures it runs these alone and writes
nothing. What cannot be measured is said, with the reason.
"""

import os
import shutil
import sys

import debian
import environment

# Debian's package, and a program that it brings.
PEERS = {
    "redis-server": "redis-server",
    "redis-tools": "redis-benchmark",
    "etcd-server": "etcd",
    "etcd-client": "etcdctl",
    "wrk": "wrk",
}


def main() -> None:
    environment.ensure("test")  # it starts databases as the tests do
    get_peers()
    debian.install_databases(without="some measures will be missing")
    build = environment.ROOT / "build"
    os.environ["PYTHONPATH"] = f"{build}{os.pathsep}{environment.ROOT}"
    os.execv(environment.PYTHON, [str(environment.PYTHON), "-m", "benchmarks", *sys.argv[1:]])


def get_peers() -> None:
    missing = [package for package, program in PEERS.items() if not shutil.which(program)]
    debian.install(missing, without="some measures will be missing")


if __name__ == "__main__":
    main()
