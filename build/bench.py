#!/usr/bin/env python3
"""Measures berth beside Redis, etcd and SQLite on this machine: `python3 build/bench.py [MEASURE…]`.

Sets up berth in .venv, installs the peers as root from Debian's packages, starts and stops everything by
itself on loopback ports, and writes docs/benchmarks.md. With names of measures it runs these alone and writes
nothing. What cannot be measured is said, with the reason.
"""

import os
import shutil
import subprocess
import sys

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
    environment.ensure()
    get_peers()
    build = environment.ROOT / "build"
    os.environ["PYTHONPATH"] = f"{build}{os.pathsep}{environment.ROOT}"
    os.execv(environment.PYTHON, [str(environment.PYTHON), "-m", "benchmarks", *sys.argv[1:]])


def get_peers() -> None:
    missing = [package for package, program in PEERS.items() if not shutil.which(program)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"some measures will be missing; to have them: apt install {' '.join(missing)}", flush=True)
        return
    print(f"installing {', '.join(missing)}", flush=True)
    # RUNLEVEL keeps the packages from starting services.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        ended = subprocess.run(
            ["apt-get", "-qq", *command], env=quiet, stdout=subprocess.DEVNULL, check=False
        )
        if ended.returncode:
            print("they could not be installed; some measures will be missing", flush=True)
            return


if __name__ == "__main__":
    main()
