"""How an option is declared: once, as an annotated field of a frozen dataclass.

    @dataclass(frozen=True, kw_only=True)
    class ServerOptions:
        listen_addr: Annotated[str, Opt("TLS listen address", metavar="ADDR")] = ":8443"
        gc_interval: Annotated[Duration, Opt("Time between sweeps")] = 30.0
        api_key: Annotated[Secret | None, Opt("Key of the peer")] = None

        def problems(self) -> list[str]:
            return ["--listen-addr must name a port"] if ":" not in self.listen_addr else []

From the declaration follow the flag (`--listen-addr`), the environment variable
(`BERTH_APISERVER_LISTEN_ADDR`), the TOML key (`[apiserver] listen_addr`), the help line and the row of the
manual. Types: str, int, float, bool, Path, Duration, Secret, Literal of texts, each also as `… | None` or
`tuple[…, ...]` (repeatable; in the environment with commas between). A field without a default is required.
`problems` is optional: the rules between fields. This module only describes; `load` reads values, `render`
prints descriptions.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from berth.config.kinds import Kind, kind_of

REQUIRED: Any = dataclasses.MISSING
_ENV_PREFIX = "BERTH_"


@dataclass(frozen=True, slots=True)
class Opt:
    """What a field says about its option, beside type and default.

    `flag` and `aliases` are long flags without dashes, `flag` in place of the field's kebab-case; `short` is
    one letter. `reloadable` says that a running role takes up a new value. An option that is `flag_only` is
    read from no environment and no file. `empty_is_value` keeps an empty text given by flag or file (it
    switches something off) where it would otherwise mean unset. `fold_case` lets choices be in any case.
    `instead_of` is the field that the option stands in for: of the two the one from the stronger source
    counts, and one source may give only one.
    """

    doc: str
    metavar: str = ""
    unit: str = ""
    flag: str = ""
    short: str = ""
    aliases: tuple[str, ...] = ()
    hidden: bool = False
    reloadable: bool = False
    flag_only: bool = False
    empty_is_value: bool = False
    fold_case: bool = False
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One declared option, resolved: its names in every source, its kind and its default."""

    field: str
    flag: str
    kind: Kind
    default: Any
    opt: Opt

    @property
    def key(self) -> str:
        """The TOML key, and in upper case the end of the variable: the flag without a leading `berth-`."""
        return self.flag.removeprefix("--").removeprefix("berth-").replace("-", "_")

    def env(self, scope: str) -> str:
        """The environment variable under a role's name, or, for the client, under the empty scope."""
        prefix = f"{scope.upper().replace('-', '_')}_" if scope else ""
        return f"{_ENV_PREFIX}{prefix}{self.key.upper()}"

    @property
    def flags(self) -> tuple[str, ...]:
        """Every spelling on the command line, the short one first."""
        short = (f"-{self.opt.short}",) if self.opt.short else ()
        return (*short, self.flag, *(f"--{alias}" for alias in self.opt.aliases))


def options_of(cls: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in its order. Raises TypeError for a field without `Opt`."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(_option(field, hints[field.name]) for field in dataclasses.fields(cls))


def _option(field: "dataclasses.Field[Any]", hint: Any) -> Option:
    opt = next((mark for mark in get_args(hint) if isinstance(mark, Opt)), None)
    if get_origin(hint) is not Annotated or opt is None:
        raise TypeError(f"field {field.name} carries no Opt")
    # What remains without the Opt is the type; a Duration keeps its own mark.
    marks = [mark for mark in hint.__metadata__ if mark is not opt]
    kind = kind_of(Annotated[hint.__origin__, *marks] if marks else hint.__origin__, fold_case=opt.fold_case)
    flag = "--" + (opt.flag or field.name.replace("_", "-"))
    return Option(field.name, flag, kind, field.default, opt)
