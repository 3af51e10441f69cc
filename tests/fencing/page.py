"""The code of the manual page: what it shows is what the tests run."""

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs/fencing.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def example(containing: str) -> str:
    """The one Python example with this text."""
    (found,) = [block for block in blocks("python") if containing in block]
    return found


def names(*examples: str) -> dict[str, Any]:
    """What the examples define, run one after another."""
    defined: dict[str, Any] = {}
    for source in examples:
        exec(compile(source, "docs/fencing.md", "exec"), defined)
    return defined
