"""How a command ends: the codes, and the exception that ends it with a line of text."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Stable: scripts depend on these. A child's own code, or 128+n for its signal, is passed through."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    NOT_MET = 3  # held by another, not current, not the holder, not found
    LOST = 4  # lost while running
    NOT_ALLOWED = 5  # 401 and 403
    UNREACHABLE = 6  # no answer, or 503


class Failure(Exception):
    """Ends the command with `code`; what it says goes to stderr after `error: `."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAULT) -> None:
        super().__init__(message)
        self.code = code
