"""Options that several roles declare; a role's class inherits them."""

from dataclasses import dataclass
from typing import Annotated, Literal

from berth.config.option import Opt


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What every role takes: the process entry makes the log from it."""

    log_level: Annotated[
        Literal["debug", "info", "warn", "warning", "error"],
        Opt("Least severe level that is logged", fold_case=True),
    ] = "info"
    log_format: Annotated[Literal["json", "text"], Opt("Form of the log's lines", fold_case=True)] = "json"
