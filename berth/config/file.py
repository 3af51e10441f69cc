"""The options' TOML file: one table for each role, and what may be wrong with it.

Owns what counts as a mistake: several roles share one file, so another role's table is none, but a name that
is nearly this role's is, and so is an option that stands in no table. Values are handed over as text.
"""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from berth.config.option import Option

_MAX_BYTES = 1 << 20
_ALIKE = 0.8  # of 1: how near a table's name is to the role's when it is that one misspelt
_TEXT_KINDS = ("string", "path", "secret", "choice")

Entry = tuple[str, tuple[str, ...]]
"""Where a value stands, for people, and its texts."""


def read_table(file: Path, scope: str, options: Sequence[Option], problems: list[str]) -> Mapping[str, Entry]:
    """What the file's table for this role gives, by key; what is wrong with it goes to `problems`."""
    try:
        document = _document(file)
    except OSError as fault:
        problems.append(f"{file}: cannot be read: {fault.strerror}")
        return {}
    except ValueError as fault:  # also malformed TOML and what is not UTF-8
        problems.append(f"{file}: not a TOML file: {fault}")
        return {}
    problems += [f"{file}: {problem}" for problem in _misplaced(document, scope)]
    table = document.get(scope)
    if not isinstance(table, dict):
        return {}
    return dict(_entries(cast("dict[str, object]", table), f"{file}: [{scope}]", options, problems))


def _document(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES} bytes")
    return tomllib.loads(data.decode())


def _misplaced(document: Mapping[str, object], scope: str) -> Iterator[str]:
    """What is wrong outside the role's table, and that there is none."""
    misspelt = False
    for name, value in document.items():
        if name == scope:
            if not isinstance(value, dict):
                yield f"{name} is not a table; write [{scope}] on a line of its own, and its options below"
        elif _is_table(value):
            if difflib.get_close_matches(name.replace("_", "-"), [scope], n=1, cutoff=_ALIKE):
                misspelt = True
                yield f"[{name}]: no such table (did you mean [{scope}]?)"
        else:
            yield f"{name} stands in no table; options of this role stand below a line [{scope}]"
    if scope not in document and not misspelt:
        yield f"has no table [{scope}]; its options stand below such a line"


def _is_table(value: object) -> bool:
    """Also an array of tables, which somebody else may use."""
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return all(isinstance(item, dict) for item in items)


def _entries(
    table: Mapping[str, object], where: str, options: Sequence[Option], problems: list[str]
) -> Iterator[tuple[str, Entry]]:
    known = {option.key: option for option in options if not option.opt.flag_only}
    for key, value in table.items():
        if key not in known:
            problems.append(f"{where} {key}: no such option{_did_you_mean(key, known)}")
            continue
        kind = known[key].kind
        items = cast("list[object]", value) if kind.repeated and isinstance(value, list) else [value]
        wanted = (str,) if kind.name in _TEXT_KINDS else (str, int, float)
        if not all(isinstance(item, wanted) for item in items):
            quoted = ", in quotes" if kind.name in _TEXT_KINDS else ""
            problems.append(f"{where} {key}: expected {kind.accepts}{quoted}")
            continue
        yield key, (f"{where} {key}", tuple(_text(item) for item in items))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
