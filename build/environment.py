"""The virtual environment in .venv: made when it is missing or out of date, found otherwise.

Standard library only: it runs before anything is installed, on a machine that has Python and pip and nothing
else. Debian and Ubuntu ship venv without ensurepip, and some a pip too old to work on another environment, so
pip is brought into the environment first, by the pip that is there.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
PYTHON = BIN / "python"
OLDEST, NEWEST = (3, 11), (3, 13)


def ensure(extra: str = "") -> None:
    """berth and what it needs, of `extra` too, in .venv. Ends the process with a clear word if that fails."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        _end(f"berth needs Python 3.11 to 3.13, and this is {sys.version.split()[0]}: run it with another")
    stamp = VENV / f".installed-{extra or 'berth'}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {VENV.name} (once; about a minute)", flush=True)
    if not PYTHON.exists() or not _run([PYTHON, "-m", "pip", "--version"], quiet=True):
        _make()
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    if not _run([PYTHON, "-m", "pip", "install", "-qq", "--editable", target]):
        _end("the packages could not be installed; see above, and run this again")
    stamp.write_text(wanted)


def _make() -> None:
    if not _run([sys.executable, "-m", "pip", "--version"], quiet=True):
        _end("pip is missing: `apt install python3-pip`")
    if not _run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV]):
        _end("the virtual environment could not be made; see above")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = VENV / "lib" / version / "site-packages"
    if not _run([sys.executable, "-m", "pip", "install", "-qq", "--target", site, "pip"]):
        _end("pip could not be installed into the virtual environment; see above")


def _run(command: list[str | Path], *, quiet: bool = False) -> bool:
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False).returncode == 0


def _end(text: str) -> None:
    print(text, file=sys.stderr)
    raise SystemExit(2)
