"""What an option's value may be: for each type one parser, one printer, one phrase of what is accepted.

Every source (flag, environment, file) hands over text, so a value is read by the same rule wherever it comes
from.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from berth.config.duration import format_duration, parse_duration
from berth.config.secret import Secret


class _GoText:
    """Marks a float of seconds that people write as Go writes durations."""


Duration: TypeAlias = Annotated[float, _GoText]

_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


@dataclass(frozen=True, slots=True)
class Kind:
    """How one type of value is named, read and shown.

    `parse` raises ValueError. `accepts` completes "expected …".
    """

    name: str
    accepts: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    choices: tuple[str, ...] = ()
    repeated: bool = False


def kind_of(annotation: Any, *, fold_case: bool = False) -> Kind:
    """The kind for a type annotation, `… | None` and the item of `tuple[…, ...]` looked through.

    Raises TypeError for a type that no option can have.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated and _GoText in args:
        return _DURATION
    if origin is Literal:
        return _choice(args, fold_case)
    if origin in (Union, UnionType):
        [inner] = [arg for arg in args if arg is not NoneType]
        return kind_of(inner, fold_case=fold_case)
    if origin is tuple:
        item = kind_of(args[0], fold_case=fold_case)
        return Kind(item.name, item.accepts, item.parse, item.show, item.choices, repeated=True)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    raise TypeError(f"no option can be of type {annotation!r}")


def _choice(values: tuple[str, ...], fold_case: bool) -> Kind:
    known = {value.casefold() if fold_case else value: value for value in values}

    def parse(text: str) -> str:
        try:
            return known[text.casefold() if fold_case else text]
        except KeyError:
            raise ValueError("not one of the choices") from None

    return Kind("choice", "one of " + ", ".join(values), parse, choices=values)


def _text(text: str) -> str:
    text.encode()  # a command line or a variable may hold any bytes
    return text


def _int(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
        raise ValueError("not a whole number")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _bool(text: str) -> bool:
    folded = text.casefold()
    if folded not in _TRUE + _FALSE:
        raise ValueError("not a truth value")
    return folded in _TRUE


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError("not a path")
    return Path(text).expanduser()


_DURATION = Kind("duration", "a duration such as 30s, 1m30s or 500ms", parse_duration, format_duration)
_PLAIN: dict[Any, Kind] = {
    str: Kind("string", "UTF-8 text", _text),
    int: Kind("int", "a whole number", _int),
    float: Kind("float", "a number", _float, "{:g}".format),
    bool: Kind("bool", "true or false", _bool, lambda value: "true" if value else "false"),
    Path: Kind("path", "a path", _path),
    Secret: Kind("secret", "a text", Secret),
}
