"""Names of code that is imported only when it is needed, so that a command costs what it uses."""

from importlib import import_module
from typing import Any


def import_named(path: str) -> Any:
    """The object at `module:attribute`."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
