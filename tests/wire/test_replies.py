"""Replies: how instants and spans are written, and the exact JSON of every shape, both ways."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berth.core.instants import rfc3339
from berth.core.requests import Acquired, Forced, Lost, NotAcquired, Renewed, Standing, View
from berth.wire import replies
from berth.wire.shapes import (
    ErrorReply,
    ForcedTenure,
    ForceReleaseReply,
    HolderObject,
    LeaseList,
    LeaseObject,
    VerifyReply,
    VersionReply,
    WhoamiReply,
)

NOW_US = 1_700_000_000_250_000
NOW = "2023-11-14T22:13:20.25Z"
END_US = NOW_US + 30_000_000
END = "2023-11-14T22:13:50.25Z"
ZERO = "0001-01-01T00:00:00Z"

VIEW_FIELDS = ("h", 7, NOW_US, END_US, 29_500_001)
VIEW = View(*VIEW_FIELDS)
UNDER_SESSION = View("h", 7, NOW_US, END_US, 29_500_001, "s1")
HELD = b'"holder":"h","fencingToken":7'
BETWEEN = b'"expiresAt":"%s","acquiredAt":"%s"' % (END.encode(), NOW.encode())
HOLDER = b'{%s,"acquiredAt":"%s","expiresAt":"%s","remainingSeconds":29.500001}' % (
    HELD,
    NOW.encode(),
    END.encode(),
)


@pytest.mark.parametrize(
    ("at_us", "text"),
    [
        (0, ZERO),
        (1, "1970-01-01T00:00:00.000001Z"),
        (1_000_000, "1970-01-01T00:00:01Z"),
        (1_500_000, "1970-01-01T00:00:01.5Z"),
        (999_999, "1970-01-01T00:00:00.999999Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00Z"),
        (4_102_444_799_100_000, "2099-12-31T23:59:59.1Z"),
    ],
)
def test_an_instant(at_us: int, text: str) -> None:
    assert rfc3339(at_us) == text


@settings(derandomize=True, database=None, deadline=None)
@given(st.integers(min_value=1, max_value=250_000_000_000_000_000))
def test_an_instant_can_be_read_back(at_us: int) -> None:
    text = rfc3339(at_us)
    assert text.endswith("Z")
    assert not text.endswith("0Z") or "." not in text
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds == at_us


def test_acquired() -> None:
    reply = replies.acquire_reply(Acquired(VIEW, True, "at-most-once", (VIEW,), taken=True))
    told = b'{"acquired":true,%s,%s,"remainingSeconds":29.500001,"cleanHandover":true}'
    assert msgspec.json.encode(reply) == told % (BETWEEN, HELD)


def test_acquired_after_an_expiry_says_false() -> None:
    reply = replies.acquire_reply(Acquired(VIEW, False, "at-most-once", (VIEW,), taken=True))
    assert b'"cleanHandover":false' in msgspec.json.encode(reply)


def test_acquired_beside_others() -> None:
    reply = replies.acquire_reply(Acquired(VIEW, True, "at-least-once", (VIEW,), taken=True))
    assert msgspec.json.encode(reply).endswith(b',"cleanHandover":true,"holders":[%s]}' % HOLDER)


def test_acquired_under_a_session() -> None:
    reply = replies.acquire_reply(Acquired(UNDER_SESSION, True, "at-most-once", (UNDER_SESSION,), taken=True))
    assert msgspec.json.encode(reply).endswith(b',"cleanHandover":true,"session":"s1"}')


def test_held_by_another() -> None:
    reply = replies.acquire_reply(NotAcquired("held", Standing(7, VIEW)))
    told = b'{"acquired":false,%s,%s,"remainingSeconds":29.500001,"reason":"held"}'
    assert msgspec.json.encode(reply) == told % (BETWEEN, HELD)


@pytest.mark.parametrize("reason", ["lock_delay", "quarantine"])
def test_closed_for_a_while(reason: Any) -> None:
    reply = replies.acquire_reply(NotAcquired(reason, Standing(7, None, NOW_US, END_US), 2_000_000))
    told = b'{"acquired":false,%s,"fencingToken":7,"remainingSeconds":0.0,"reason":"%s",%s}'
    delay = b'"availableAfterSeconds":2.0'
    assert msgspec.json.encode(reply) == told % (BETWEEN, reason.encode(), delay)


def test_renewed() -> None:
    assert msgspec.json.encode(replies.renew_reply(Renewed(*VIEW_FIELDS))) == b'{"acquired":true,%s,%s}' % (
        BETWEEN,
        HELD,
    )


def test_lost_to_another() -> None:
    reply = replies.renew_reply(Lost(Standing(7, VIEW)))
    assert msgspec.json.encode(reply) == b'{"acquired":false,%s,%s}' % (BETWEEN, HELD)


def test_lost_and_free() -> None:
    reply = replies.renew_reply(Lost(Standing(7, None, NOW_US, END_US)))
    assert msgspec.json.encode(reply) == b'{"acquired":false,%s,"fencingToken":7}' % BETWEEN


def test_lost_what_never_was() -> None:
    reply = replies.renew_reply(Lost(Standing()))
    told = b'{"acquired":false,"expiresAt":"%s","acquiredAt":"%s"}' % (ZERO.encode(), ZERO.encode())
    assert msgspec.json.encode(reply) == told


def test_forced() -> None:
    reply = replies.force_release_reply(Forced(VIEW, 29_500_001))
    assert msgspec.json.encode(reply) == b'{"released":{%s},"mayActForSeconds":29.500001}' % HELD


TENURE = HolderObject("h", 7, NOW, END, 29.5)
GOLDEN: list[tuple[msgspec.Struct, Any]] = [
    (
        TENURE,
        {"holder": "h", "fencingToken": 7, "acquiredAt": NOW, "expiresAt": END, "remainingSeconds": 29.5},
    ),
    (
        LeaseObject("n", "x", "free", "at-most-once", 7, ()),
        {
            "namespace": "n",
            "name": "x",
            "state": "free",
            "semantics": "at-most-once",
            "fencingToken": 7,
            "holders": [],
        },
    ),
    (
        LeaseObject("n", "x", "held", "at-least-once", 7, (TENURE,), 2, "h", NOW, END, 29.5, "s1", 0.0),
        {
            "namespace": "n",
            "name": "x",
            "state": "held",
            "semantics": "at-least-once",
            "fencingToken": 7,
            "holders": [msgspec.to_builtins(TENURE)],
            "maxHolders": 2,
            "holder": "h",
            "acquiredAt": NOW,
            "expiresAt": END,
            "remainingSeconds": 29.5,
            "session": "s1",
            "availableAfterSeconds": 0.0,
        },
    ),
    (LeaseList([], "r1"), {"items": [], "revision": "r1"}),
    (LeaseList([], "r1", "c1"), {"items": [], "revision": "r1", "continue": "c1"}),
    (VerifyReply(False, 0), {"current": False, "fencingToken": 0}),
    (
        ForceReleaseReply(ForcedTenure("h", 7), 0.0),
        {"released": {"holder": "h", "fencingToken": 7}, "mayActForSeconds": 0.0},
    ),
    (WhoamiReply("", "admin", "none"), {"tenant": "", "role": "admin", "authMode": "none"}),
    (VersionReply("1", "c", "3.11.2"), {"version": "1", "commit": "c", "python": "3.11.2"}),
    (ErrorReply("text", "internal"), {"error": "text", "code": "internal"}),
    (ErrorReply("text", "internal", "id"), {"error": "text", "code": "internal", "requestId": "id"}),
]


@pytest.mark.parametrize(("shape", "golden"), GOLDEN, ids=lambda each: type(each).__name__)
def test_a_shape_and_its_json(shape: msgspec.Struct, golden: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(shape)) == golden
    assert msgspec.json.decode(msgspec.json.encode(golden), type=type(shape)) == shape
    # A client of today understands a server of tomorrow.
    assert msgspec.json.decode(msgspec.json.encode({**golden, "later": 1}), type=type(shape)) == shape
