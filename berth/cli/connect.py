"""Asks a server on behalf of a client command, and turns what goes wrong into words and an exit code."""

import getpass
import os
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from berth.cli.client_options import ClientOptions
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.output import printable
from berth.client import (
    ApiError,
    BerthClient,
    BerthError,
    Conflict,
    Invalid,
    Misconfigured,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    RevisionTooOld,
    Unreachable,
    WrongAddress,
)

T = TypeVar("T")


def call(options: ClientOptions, ask: Callable[[BerthClient], Awaitable[T]]) -> T:
    """What `ask` gets from the server that the options name. Raises Failure."""

    async def session() -> T:
        client = BerthClient(
            options.api_server,
            api_key=options.api_key.reveal() if options.api_key else None,
            api_key_file=options.api_key_file,
            ca_file=options.ca_file,
        )
        async with client:
            return await ask(client)

    try:
        return trio.run(session)
    except BerthError as fault:
        advice = _advice(fault, options)
        raise Failure("\n".join(filter(None, (_told(fault), advice))), _exit_code(fault)) from fault


async def holder_of(client: BerthClient, options: ClientOptions, given: str) -> str:
    """The holder that was given, else `user@host`, below the caller's tenant where there is a key."""
    if given:
        return given
    here = f"{_user()}@{socket.gethostname()}"
    if options.api_key is None and options.api_key_file is None:
        return here
    tenant = (await client.whoami()).tenant
    return f"{tenant}/{here}" if tenant else here


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _told(fault: BerthError) -> str:
    text = printable(str(fault))
    if not isinstance(fault, ApiError):
        return text
    details = ", ".join(filter(None, (fault.code, f"request {fault.request_id}" if fault.request_id else "")))
    return f"{text} ({printable(details)})" if details else text


def _exit_code(fault: BerthError) -> ExitCode:
    match fault:
        case BerthError(server_defect=True):
            return ExitCode.FAULT
        case Misconfigured() | Invalid() | WrongAddress():
            return ExitCode.USAGE
        case NotAllowed():
            return ExitCode.NOT_ALLOWED
        case NotFound() | Conflict() | RevisionTooOld():
            return ExitCode.NOT_MET
        case Unreachable() | OutcomeUnknown() | ApiError(status=429 | 503):
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.FAULT


def _advice(fault: BerthError, options: ClientOptions) -> str:
    match fault:
        case BerthError(server_defect=True):
            return "The server has a defect: its log tells more about the request."
        case WrongAddress():
            return "That is no API server's base URL: check --api-server or BERTH_API_SERVER."
        case NotAllowed(status=401) if options.api_key is None and options.api_key_file is None:
            return "The server wants an API key: pass --api-key-file or set BERTH_API_KEY_FILE."
        case NotAllowed(status=401):
            return "The server does not know this API key: check --api-key and --api-key-file."
        case NotAllowed(code="forbidden_holder"):
            return "A holder is your tenant, or your tenant, a slash and more; berth whoami shows the tenant."
        case NotAllowed():
            return "berth whoami shows the tenant and role of your API key."
        case Unreachable() if "not trusted" in str(fault):
            return "Pass --ca-file or set BERTH_CA_FILE: a file of the authority that signed the certificate."
        case Unreachable() if "cannot be accepted" in str(fault):
            return "Ask for the server by a name and at a time that its certificate is valid for."
        case Unreachable() if "cannot connect" in str(fault):
            return "Is the server running? --api-server or BERTH_API_SERVER says where it is."
        case OutcomeUnknown():
            return "It may have been done: look with berth lease get, or run the same command again."
        case _:
            return ""
