"""Values for declared options: flag over environment over TOML file over default.

Every problem is found before any is reported, and each says where its value came from and what is accepted
there. Of two options that stand for each other the one from the stronger source counts. Pure but for
reading the file. An empty text means unset.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from berth.config.duration import TooLong
from berth.config.file import Entry, read_table
from berth.config.option import REQUIRED, Option, options_of

T = TypeVar("T")

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
    """Texts that one source gives for an option, and how to name that source. `rank` 0 is the strongest."""

    rank: int
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
    table: Mapping[str, Entry] = read_table(file, scope, options, problems) if file else {}
    given = {option.field: _given(option, scope, flags, env, table) for option in options}
    faulty = _settle(options, given, problems)
    values: dict[str, Any] = {}
    for option in options:
        try:
            values[option.field] = _value(option, given[option.field])
        except ValueError as fault:
            problems.append(str(fault))
            faulty.append(option.flag)
            values[option.field] = None if option.default is REQUIRED else option.default
    sources = {field: one.source if one else "default" for field, one in given.items()}
    missing = any(option.default is REQUIRED and values[option.field] is None for option in options)
    if not missing:
        loaded = Loaded(cls(**values), sources)
        problems += _rule_problems(loaded.options, faulty)
        if not problems:
            return loaded
    raise ConfigErrors(problems)


def _settle(options: Sequence[Option], given: dict[str, _Given | None], problems: list[str]) -> list[str]:
    """Leave of two options that stand for each other the stronger; the flags of those that none is."""
    faulty: list[str] = []
    for option in options:
        rival = option.opt.instead_of
        one, other = given[option.field], given.get(rival)
        if one is None or other is None:
            continue
        if one.rank == other.rank:
            problems.append(f"{other.source} and {one.source} exclude each other; give one of them")
            faulty.append(option.flag)
        given[option.field if one.rank > other.rank else rival] = None
    return faulty


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
    table: Mapping[str, Entry],
) -> _Given | None:
    """The first source, by precedence, that gives the option a value."""
    candidates: list[tuple[str, tuple[str, ...]]] = [(option.flag, tuple(flags.get(option.field, ())))]
    if not option.opt.flag_only:
        name = option.env(scope)
        text = env.get(name, "")
        # An empty variable is unset for every option: service managers leave them behind.
        in_env = tuple(text.split(",")) if option.kind.repeated and text else (text,)
        candidates.append((name, in_env if text else ()))
        if option.key in table:
            candidates.append(table[option.key])
    for rank, (source, texts) in enumerate(candidates):
        kept = texts if option.opt.empty_is_value else tuple(filter(None, texts))
        if kept:
            return _Given(rank, source, kept)
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
    shown = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
    try:
        return option.kind.parse(text)
    except TooLong:
        raise ValueError(f"{source}: {shown!r} is too long; the longest duration is 292 years") from None
    except ValueError:
        raise ValueError(f"{source}: {shown!r} is not {option.kind.accepts}") from None
