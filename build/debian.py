"""Debian's packages, for what the tests and the benchmark run besides berth. Standard library only."""

import glob
import os
import shutil
import subprocess

# Debian's package, and where its server is when it is installed.
DATABASES = {
    "postgresql": ("/usr/lib/postgresql/*/bin/postgres", "/usr/local/pgsql/bin/postgres"),
    "mariadb-server": ("/usr/sbin/mariadbd", "/usr/libexec/mariadbd"),
}


def install_databases(without: str) -> None:
    """The database servers that are not there yet."""
    missing = [package for package, found in DATABASES.items() if not any(glob.glob(path) for path in found)]
    install(missing, without)


def install(packages: list[str], without: str) -> None:
    """As root with apt. What cannot be installed is said: `without` tells what that means."""
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"{without}; to have them: apt install {' '.join(packages)}", flush=True)
        return
    print(f"installing {', '.join(packages)}", flush=True)
    # RUNLEVEL keeps the packages from starting services.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        ended = subprocess.run(
            ["apt-get", "-qq", *command], env=quiet, stdout=subprocess.DEVNULL, check=False
        )
        if ended.returncode:
            print(f"they could not be installed; {without}", flush=True)
            return
