"""The manual is true: what follows from declarations is current, and no link, call or code is missing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from berth.wire.problems import PROBLEMS
from berth.wire.routes import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_what_is_generated_is_current() -> None:
    script = "import generate; print(*generate.stale(), end='')"
    generated = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT / "build",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert generated.stdout == "", "run build/generate.py and commit what it writes"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_call_and_every_code_is_in_the_manual() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    assert [
        operation.path for operation in OPERATIONS if f"{operation.method} {operation.path}`" not in page
    ] == []
    assert [code for code in PROBLEMS if f"`{code}`" not in page] == []
