"""The main job: `build/transcript.py` plays it on real parts, and the manual shows what it wrote."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_main_job_goes_as_the_manual_shows_it(tmp_path: Path) -> None:
    written = tmp_path / "transcript.md"
    played = subprocess.run(
        [sys.executable, str(ROOT / "build" / "transcript.py"), str(written)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    shown = (ROOT / "docs" / "transcript.md").read_text()
    assert written.read_text() == shown, "run build/transcript.py and commit docs/transcript.md"
