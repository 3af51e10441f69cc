"""Values for declared options: flag over environment over TOML file over default.

Every problem is found before any is reported, and each says where its value came from and what is accepted
there. Pure but for reading the file. An empty text means unset.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from berth.config.option import REQUIRED, Option, options_of

T = TypeVar("T")

_MAX_FILE_BYTES = 1 << 20
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """Options, and where each field's value came from.

    A source reads `--ttl`, `BERTH_APISERVER_TTL`, `x.toml: [apiserver] ttl` or `default`.
    """

    options: T
    sources: Mapping[str, str]


class ConfigErrors(Exception):
    """The configuration cannot be used. `problems` holds every fault found, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class _Given:
    """Texts that one source gives for an option, and how to name that source."""

    source: str
    texts: tuple[str, ...]


def load(
    cls: type[T],
    scope: str,
    *,
    flags: Mapping[str, Sequence[str]],
    env: Mapping[str, str],
    file: Path | None = None,
) -> Loaded[T]:
    """Build `cls` from its sources.

    `scope` is the role's name (and its TOML table), empty for the client. `flags` maps fields to the texts
    given on the command line, the last one counting unless the option is repeatable. Raises ConfigErrors.
    """
    options = options_of(cls)
    problems: list[str] = []
    table: Mapping[str, _Given] = _read_table(file, scope, options, problems) if file else {}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    faulty: list[str] = []
    for option in options:
        given = _given(option, scope, flags, env, table)
        try:
            values[option.field] = _value(option, given)
        except ValueError as fault:
            problems.append(str(fault))
            faulty.append(option.flag)
            values[option.field] = None if option.default is REQUIRED else option.default
        sources[option.field] = given.source if given else "default"
    missing = any(option.default is REQUIRED and values[option.field] is None for option in options)
    if not missing:
        loaded = Loaded(cls(**values), sources)
        problems += _rule_problems(loaded.options, faulty)
        if not problems:
            return loaded
    raise ConfigErrors(problems)


def _rule_problems(options: object, faulty: Sequence[str]) -> Iterator[str]:
    """What the class's own rules find, but for what they say of options that already have a problem."""
    rules = getattr(options, "problems", list[str])
    for problem in rules():
        if not any(re.search(rf"{flag}(?![\w-])", problem) for flag in faulty):
            yield problem


def _given(
    option: Option,
    scope: str,
    flags: Mapping[str, Sequence[str]],
    env: Mapping[str, str],
    table: Mapping[str, _Given],
) -> _Given | None:
    """The first source, by precedence, that gives the option a value."""
    candidates = [_Given(option.flag, tuple(flags.get(option.field, ())))]
    if not option.opt.flag_only:
        name = option.env(scope)
        text = env.get(name, "")
        # An empty variable is unset for every option: service managers leave them behind.
        in_env = tuple(text.split(",")) if option.kind.repeated and text else (text,)
        candidates.append(_Given(name, in_env if text else ()))
        if option.key in table:
            candidates.append(table[option.key])
    for given in candidates:
        texts = given.texts if option.opt.empty_is_value else tuple(filter(None, given.texts))
        if texts:
            return _Given(given.source, texts)
    return None


def _value(option: Option, given: _Given | None) -> Any:
    """The option's value. Raises ValueError with a sentence for people."""
    if given is None:
        if option.default is REQUIRED:
            raise ValueError(f"{option.flag} is required ({option.opt.doc})")
        return option.default
    if option.kind.repeated:
        return tuple(_parsed(option, given.source, text) for text in given.texts)
    return _parsed(option, given.source, given.texts[-1])


def _parsed(option: Option, source: str, text: str) -> Any:
    try:
        return option.kind.parse(text)
    except ValueError:
        shown = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
        raise ValueError(f"{source}: {shown!r} is not {option.kind.accepts}") from None


def _read_table(
    file: Path, scope: str, options: Sequence[Option], problems: list[str]
) -> Mapping[str, _Given]:
    """What the file's table for this role gives, by key; what is wrong with it goes to `problems`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"larger than {_MAX_FILE_BYTES} bytes")
        document = tomllib.loads(data.decode())
    except OSError as fault:
        problems.append(f"{file}: cannot be read: {fault.strerror}")
        return {}
    except ValueError as fault:  # also malformed TOML and what is not UTF-8
        problems.append(f"{file}: not a TOML file: {fault}")
        return {}
    if not isinstance(document.get(scope), dict):
        problems.append(f"{file}: has no table [{scope}]{_did_you_mean(scope, document, '[{}]')}")
        return {}
    return dict(_entries(document[scope], f"{file}: [{scope}]", options, problems))


def _entries(
    table: Mapping[str, object], where: str, options: Sequence[Option], problems: list[str]
) -> Iterator[tuple[str, _Given]]:
    known = {option.key: option for option in options if not option.opt.flag_only}
    for key, value in table.items():
        if key not in known:
            problems.append(f"{where} {key}: no such option{_did_you_mean(key, known)}")
            continue
        items = _items(value) if known[key].kind.repeated else [value]
        if not all(isinstance(item, str | int | float) for item in items):
            problems.append(f"{where} {key}: expected {known[key].kind.accepts}")
            continue
        yield key, _Given(f"{where} {key}", tuple(_toml_text(item) for item in items))


def _items(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _toml_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _did_you_mean(name: str, known: Mapping[str, object], form: str = "{}") -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f" (did you mean {form.format(near[0])}?)" if near else ""
