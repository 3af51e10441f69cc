"""How options are declared, loaded and rendered. No I/O but reading the file it is given."""

from berth.config.duration import format_duration, parse_duration
from berth.config.kinds import Duration
from berth.config.load import ConfigErrors, Loaded, load
from berth.config.option import Opt, Option, options_of
from berth.config.secret import Secret

__all__ = [
    "ConfigErrors",
    "Duration",
    "Loaded",
    "Opt",
    "Option",
    "Secret",
    "format_duration",
    "load",
    "options_of",
    "parse_duration",
]
