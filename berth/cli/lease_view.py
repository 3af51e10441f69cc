"""How leases look on the terminal, from the objects of the wire. Reads no clock: ages are by the server's."""

from collections.abc import Callable, Sequence
from datetime import datetime
from math import ceil
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from berth.cli.output import Form, print_data, print_record, print_table, printable, span
from berth.wire.shapes import AcquireReply, ForceReleaseReply, LeaseObject

Column = tuple[str, Callable[[LeaseObject], str]]


def show_record(reply: Struct, form: Literal["table", "json", "yaml"]) -> None:
    """A small reply; as a table, a line for each field."""
    print_record(msgspec.to_builtins(reply), form)


def show_leases(
    leases: Sequence[LeaseObject], form: Form, *, whole: Struct, with_namespace: bool = False
) -> None:
    """Leases for people, or for programs the `whole` object that they came in."""
    match form:
        case "json" | "yaml":
            print_data(msgspec.to_builtins(whole), form)
        case "name":
            for lease in leases:
                print(lease_name(lease, with_namespace=with_namespace))
        case "table" | "wide":
            columns = lease_columns(form, with_namespace=with_namespace)
            rows = ([cell(lease) for _, cell in columns] for lease in leases)
            print_table([heading for heading, _ in columns], rows)


def lease_name(lease: LeaseObject, *, with_namespace: bool) -> str:
    return f"{lease.namespace}/{lease.name}" if with_namespace else lease.name


def lease_columns(form: Form, *, with_namespace: bool) -> tuple[Column, ...]:
    """The columns of a table of leases."""
    return (_NAMESPACE if with_namespace else ()) + _TABLE + (_WIDE if form == "wide" else ())


def show_grant(name: str, reply: AcquireReply, form: Form) -> None:
    """What acquire or renew answered, whether or not it acquired."""
    match form:
        case "json" | "yaml":
            print_data(msgspec.to_builtins(reply), form)
        case "name":
            if reply.acquired:
                print(name)
        case "table" | "wide":
            cells = {
                "NAME": name,
                "ACQUIRED": "yes" if reply.acquired else "no",
                "HOLDER": reply.holder,
                "TOKEN": str(reply.fencing_token),
                "EXPIRES": instant(reply.expires_at) if reply.holder else "",
            }
            if form == "wide":
                cells |= {
                    "SINCE": instant(reply.acquired_at) if reply.holder else "",
                    "CLEAN HANDOVER": _yes_no(reply.clean_handover),
                    "SESSION": reply.session,
                }
            print_table(list(cells), [list(cells.values())])


def show_forced(name: str, reply: ForceReleaseReply, form: Literal["table", "json", "yaml"]) -> None:
    """Whose tenure was ended. How long it may act is rounded up: who waits that long is safe."""
    if form == "table":
        ended = reply.released
        may_act = still(reply.may_act_for_seconds)
        row = (name, ended.holder, str(ended.fencing_token), may_act)
        print_table(("NAME", "HOLDER", "TOKEN", "MAY ACT FOR"), [row])
    else:
        print_data(msgspec.to_builtins(reply), form)


def held_by(reply: AcquireReply) -> str:
    return f"held by {printable(reply.holder)} (token {reply.fencing_token})" if reply.holder else "free"


def still(seconds: float) -> str:
    """How long something still lasts, rounded up: after that time it is over."""
    return span(ceil(seconds))


def instant(text: str) -> str:
    """An instant of the wire to the second: people compare it with a clock on the wall."""
    whole, point, fraction = text.partition(".")
    return whole + fraction.lstrip("0123456789") if point else text


def _yes_no(value: bool | UnsetType) -> str:
    return "" if value is UNSET else "yes" if value else "no"


def _state(lease: LeaseObject) -> str:
    if lease.state == "free" and lease.available_after_seconds is not UNSET:
        return f"free in {span(lease.available_after_seconds)}"
    return lease.state


def _holder(lease: LeaseObject) -> str:
    others = len(lease.holders) - 1
    return f"{lease.holder} +{others}" if others > 0 else lease.holder


def _holders(lease: LeaseObject) -> str:
    held = str(len(lease.holders))
    return held if lease.max_holders is UNSET else f"{held}/{lease.max_holders}"


def _expires_in(lease: LeaseObject) -> str:
    return "" if lease.remaining_seconds is UNSET else span(lease.remaining_seconds)


def _held_for(lease: LeaseObject) -> str:
    """Since the tenure began; what remains of it tells the server's present."""
    if lease.remaining_seconds is UNSET:
        return ""
    try:
        whole = datetime.fromisoformat(lease.expires_at) - datetime.fromisoformat(lease.acquired_at)
    except (ValueError, TypeError):  # another server's idea of an instant
        return ""
    return span(whole.total_seconds() - lease.remaining_seconds)


_NAMESPACE: tuple[Column, ...] = (("NAMESPACE", lambda lease: lease.namespace),)
_TABLE: tuple[Column, ...] = (
    ("NAME", lambda lease: lease.name),
    ("STATE", _state),
    ("HOLDER", _holder),
    ("TOKEN", lambda lease: str(lease.fencing_token)),
    ("EXPIRES IN", _expires_in),
    ("HELD FOR", _held_for),
)
_WIDE: tuple[Column, ...] = (
    ("SEMANTICS", lambda lease: lease.semantics),
    ("HOLDERS", _holders),
    ("SESSION", lambda lease: lease.session),
    ("SINCE", lambda lease: instant(lease.acquired_at)),
    ("EXPIRES", lambda lease: instant(lease.expires_at)),
)
