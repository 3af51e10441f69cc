"""The house: floors, doors, sizes, and a docstring over every door. What import-linter cannot say is here."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "berth").rglob("*.py"))
LINES_MAX = 350
FUNCTION_LINES_MAX = 60

# The only places that may import a third-party library, as path prefixes below berth/.
DOORS = {
    "aiosqlite": ("store/sqlite",),
    "asyncio": ("runtime/aio.py", "store/sqlite"),
    "asyncmy": ("store/mariadb_driver.py",),
    "asyncpg": ("store/postgres_driver.py",),
    "click": ("cli/",),
    "cryptography": ("runtime/devca.py", "runtime/tls.py"),
    "h11": ("runtime/serve",),
    "httpx": ("runtime/http.py", "runtime/http_stream.py"),
    "hypercorn": ("runtime/serve",),
    "kubernetes": ("kube/access",),
    "prometheus_client": ("runtime/metrics.py",),
    "quart": ("roles/",),
    "quart_trio": ("roles/",),
    "rich": ("cli/",),
    "sqlite3": ("store/sqlite",),
    "structlog": ("runtime/log.py",),
    "trio_asyncio": ("runtime/aio.py",),
    "werkzeug": ("roles/",),
    "yaml": ("cli/",),
}


def name(module: Path) -> str:
    return module.relative_to(ROOT / "berth").as_posix()


def imported(module: Path) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_imports_point_down_the_floors() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_third_party_libraries_come_in_by_their_door(module: Path) -> None:
    strangers = [
        library
        for library in sorted(imported(module))
        if library in DOORS and not name(module).startswith(DOORS[library])
    ]
    assert not strangers


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_says_what_it_is_and_stays_small(module: Path) -> None:
    text = module.read_text()
    assert ast.get_docstring(ast.parse(text)) or name(module) == "__init__.py"
    assert len(text.splitlines()) <= LINES_MAX


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_functions_fit_a_screen(module: Path) -> None:
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert not long


def test_siblings_do_not_know_each_other() -> None:
    roles = {path.name for path in (ROOT / "berth" / "roles").iterdir() if path.is_dir()}
    for role in roles:
        for module in (ROOT / "berth" / "roles" / role).rglob("*.py"):
            others = {other for other in roles - {role} if f"berth.roles.{other}" in module.read_text()}
            assert not others, f"{name(module)} imports {others}"
