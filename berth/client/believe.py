"""Belief: what a successful reply must be before anybody acts on it.

Owns one reader for each kind of reply: bytes in, the reply out, or Unbelievable. Keys that this version does
not know are accepted, for newer servers send more. Times in replies are not judged: they are for people.
"""

from typing import TypeVar

import msgspec
from msgspec import UNSET

from berth.core.names import shown
from berth.core.records import TOKEN_MAX
from berth.runtime.http import Lines
from berth.wire.shapes import (
    AcquireReply,
    ForceReleaseReply,
    LeaseList,
    LeaseObject,
    SessionList,
    SessionObject,
    VerifyReply,
    VersionReply,
    WatchEvent,
    WhoamiReply,
)

ReplyT = TypeVar("ReplyT", bound=msgspec.Struct)


class Unbelievable(Exception):
    """The body cannot be the answer to what was asked; the text continues "the server answered, but …"."""


def grant(body: bytes, *, holder: str, fencing_token: int | None = None) -> AcquireReply:
    """The answer to an acquire or, with the token of the tenure, to a renewal."""
    reply = _decoded(body, AcquireReply)
    if not reply.acquired:
        return reply
    if reply.holder != holder:
        raise Unbelievable(f"granted the lease to {shown(reply.holder)}, and {shown(holder)} asked for it")
    if not 1 <= reply.fencing_token <= TOKEN_MAX:
        raise Unbelievable(f"granted the lease with {reply.fencing_token}, which is no fencing token")
    if fencing_token not in (None, reply.fencing_token):
        raise Unbelievable(f"renewed token {reply.fencing_token}, and {fencing_token} was to be renewed")
    return reply


class _Batch(msgspec.Struct):
    results: list[msgspec.Raw]


def batch(body: bytes, *, count: int) -> list[msgspec.Raw]:
    """The results of a batch, each to be read as the reply of its single call."""
    reply = _decoded(body, _Batch)
    if len(reply.results) != count:
        raise Unbelievable(f"told {len(reply.results)} results, and {count} operations were sent")
    return reply.results


def forced(body: bytes, *, fencing_token: int) -> ForceReleaseReply:
    reply = _decoded(body, ForceReleaseReply)
    ended = reply.released.fencing_token
    if ended != fencing_token:
        raise Unbelievable(f"ended the tenure of token {ended}, and {fencing_token} was to be ended")
    return reply


def verified(body: bytes, *, fencing_token: int) -> VerifyReply:
    reply = _decoded(body, VerifyReply)
    if reply.current and reply.fencing_token < fencing_token:
        raise Unbelievable(f"called token {fencing_token} current, and {reply.fencing_token} the highest")
    return reply


def lease(body: bytes, *, namespace: str, name: str) -> LeaseObject:
    reply = _decoded(body, LeaseObject)
    if (reply.namespace, reply.name) != (namespace, name):
        raise Unbelievable(f"told of another lease, {shown(f'{reply.namespace}/{reply.name}')}")
    return reply


def page(body: bytes, *, after: str | None) -> LeaseList:
    reply = _decoded(body, LeaseList)
    _goes_on(reply.continue_, after)
    return reply


def no_watch(body: bytes) -> Lines:
    """What a server answers that was asked to watch, and does not."""
    raise Unbelievable("that is no watch")


def event(line: bytes, *, namespace: str | None) -> WatchEvent:
    """One line of a watch on a namespace, or on all."""
    told = _decoded(line, WatchEvent)
    if not told.revision:
        raise Unbelievable("an event has no revision to go on from")
    if told.type != "bookmark" and told.object is UNSET:
        raise Unbelievable("an event does not say of which lease")
    if told.object is not UNSET and namespace not in (None, told.object.namespace):
        raise Unbelievable(f"an event is of another namespace, {shown(told.object.namespace)}")
    return told


def opened(body: bytes, *, holder: str, instance: str) -> SessionObject:
    reply = _decoded(body, SessionObject)
    if not (reply.alive and reply.id and (reply.holder, reply.instance) == (holder, instance)):
        raise Unbelievable("opened no session of the holder and instance that asked for one")
    return reply


def session(body: bytes, *, session_id: str) -> SessionObject:
    reply = _decoded(body, SessionObject)
    if reply.id != session_id:
        raise Unbelievable(f"told of another session, {shown(reply.id)}")
    return reply


def sessions(body: bytes, *, after: str | None) -> SessionList:
    reply = _decoded(body, SessionList)
    _goes_on(reply.continue_, after)
    return reply


def identity(body: bytes) -> WhoamiReply:
    return _decoded(body, WhoamiReply)


def version(body: bytes) -> VersionReply:
    return _decoded(body, VersionReply)


def nothing(body: bytes) -> None:
    """The answer to a release: its status says it all."""


def alive(body: bytes) -> None:
    if body.strip() != b"ok":
        raise Unbelievable('the body is not "ok"')


def _goes_on(continue_: str, after: str | None) -> None:
    if continue_ and continue_ == after:
        raise Unbelievable("the next page is the same one again, without end")


def _decoded(body: bytes, kind: type[ReplyT]) -> ReplyT:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise Unbelievable(f"the body is not what it must be: {str(fault)[:200]}") from fault
