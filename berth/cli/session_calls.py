"""What the session commands do: ask, and print sessions as people and programs want them."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET

from berth.cli.connect import call
from berth.cli.lease_view import instant
from berth.cli.output import Form, print_data, print_table, printable, span, talk
from berth.cli.session import EndOptions, GetOptions, ListOptions
from berth.client import BerthClient
from berth.wire.shapes import SessionList, SessionObject

Column = tuple[str, Callable[[SessionObject], str]]


def list_sessions(options: ListOptions) -> None:
    async def ask(client: BerthClient) -> SessionList:
        sessions = client.list_sessions(holder=options.holder, instance=options.instance)
        return SessionList([session async for session in sessions])

    found = call(options, ask)
    if not found.items and options.output in ("table", "wide"):
        talk("no such sessions" if options.holder or options.instance else "no sessions")
    else:
        _show(found.items, options.output, whole=found)


def get(options: GetOptions, session: str) -> None:
    found = call(options, lambda client: client.get_session(session))
    _show([found], options.output, whole=found)


def end(options: EndOptions, session: str) -> None:
    call(options, lambda client: client.end_session(session))
    talk(f"session {printable(session)} is over")


def _show(sessions: Sequence[SessionObject], form: Form, *, whole: msgspec.Struct) -> None:
    match form:
        case "json" | "yaml":
            print_data(msgspec.to_builtins(whole), form)
        case "name":
            for session in sessions:
                print(session.id)
        case "table" | "wide":
            columns = _TABLE + (_WIDE if form == "wide" else ())
            rows = ([cell(session) for _, cell in columns] for session in sessions)
            print_table([heading for heading, _ in columns], rows)


def _ttl(session: SessionObject) -> str:
    return "" if session.ttl_seconds is UNSET else span(session.ttl_seconds)


def _expires_in(session: SessionObject) -> str:
    return "" if session.remaining_seconds is UNSET else span(session.remaining_seconds)


_TABLE: tuple[Column, ...] = (
    ("ID", lambda session: session.id),
    ("HOLDER", lambda session: session.holder),
    ("INSTANCE", lambda session: "" if session.instance is UNSET else session.instance),
    ("STATE", lambda session: "alive" if session.alive else session.reason),
    ("EXPIRES IN", _expires_in),
)
_WIDE: tuple[Column, ...] = (
    ("TTL", _ttl),
    ("EXPIRES", lambda session: instant(session.expires_at)),
)
