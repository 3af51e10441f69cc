"""Durations as Go writes them: `30s`, `1m30s`, `500ms`, `1.5h`, `0`.

Held as float seconds. A duration here is a length of time, so it has no sign.
"""

import re

_S = 10**9
_NANOS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": _S, "m": 60 * _S, "h": 3600 * _S}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MAX_NANOS = 2**63 - 1  # what Go can hold: 292 years
_MAX_CHARS = 64


class TooLong(ValueError):
    """A duration, but over 292 years."""


def parse_duration(text: str) -> float:
    """The seconds that `text` says. Raises TooLong, and ValueError when it is no duration, or negative."""
    if text == "0":
        return 0.0
    nanos = 0.0
    end = 0
    for part in _PART.finditer(text[:_MAX_CHARS]):
        if part.start() != end:
            break
        number, unit = part.groups()
        nanos += float(number) * _NANOS[unit]
        end = part.end()
    if end == 0 or end != len(text):
        raise ValueError("not a duration")
    if nanos > _MAX_NANOS:
        raise TooLong("over 292 years")
    return nanos / 1e9


def format_duration(seconds: float) -> str:
    """The shortest text for `seconds`, to the nanosecond: `1m30s`, `24h`, `500ms`, `1.5s`, `0s`."""
    nanos = round(seconds * 1e9)
    if nanos < 0:
        raise ValueError("a duration is not negative")
    if nanos < _S:
        return _below_a_second(nanos)
    parts: list[str] = []
    for unit in ("h", "m"):
        count, nanos = divmod(nanos, _NANOS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if nanos:
        parts.append(f"{_decimal(nanos, _S)}s")
    return "".join(parts)


def _below_a_second(nanos: int) -> str:
    if nanos == 0:
        return "0s"
    unit = next(unit for unit in ("ms", "us", "ns") if nanos >= _NANOS[unit])
    return _decimal(nanos, _NANOS[unit]) + unit


def _decimal(nanos: int, unit_nanos: int) -> str:
    """`nanos` in its unit, without an exponent and without trailing zeros."""
    whole, rest = divmod(nanos, unit_nanos)
    digits = str(rest).rjust(len(str(unit_nanos)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
