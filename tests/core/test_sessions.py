"""Sessions by themselves: opened once, renewed until they expire, ended once."""

import pytest

from berth.core.sessions import (
    EndSession,
    OpenSession,
    RenewSession,
    SessionAlive,
    SessionOver,
    decide_session,
)
from tests.core.readings import NOW, TTL, session

LIVE, LAST, EXPIRED = session("s", "a", 4), session("s", "a", TTL), session("s", "a", TTL + 1)
RENEWED, UNTOUCHED = "renewed", None

ROWS = [
    ("a live one renews", LIVE, RenewSession(), ("alive", TTL), RENEWED),
    ("at its last instant too", LAST, RenewSession(), ("alive", TTL), RENEWED),
    ("a late renewal ends it", EXPIRED, RenewSession(), ("expired",), "expired"),
    ("an unknown one is over", None, RenewSession(), ("unknown",), UNTOUCHED),
    ("its holder ends it", LIVE, EndSession("clean"), ("ended",), "clean"),
    ("an admin ends it", LIVE, EndSession("forced"), ("ended",), "forced"),
    ("its holder ends it late", EXPIRED, EndSession("clean"), ("ended",), "clean"),
    ("an expired one is written off", EXPIRED, EndSession("expired"), ("expired",), "expired"),
    ("a live one is not", LIVE, EndSession("expired"), ("alive", 6), UNTOUCHED),
    ("nor at its last instant", LAST, EndSession("expired"), ("alive", 0), UNTOUCHED),
    ("an unknown one need not end", None, EndSession("clean"), ("unknown",), UNTOUCHED),
    ("a clean end is the end", session("s", "a", 0, "clean"), RenewSession(), ("ended",), UNTOUCHED),
    ("a forced one too", session("s", "a", 0, "forced"), RenewSession(), ("ended",), UNTOUCHED),
    ("an expired one too", session("s", "a", 0, "expired"), RenewSession(), ("expired",), UNTOUCHED),
    ("an end is not changed", session("s", "a", 0, "expired"), EndSession("clean"), ("expired",), UNTOUCHED),
]


@pytest.mark.parametrize(
    ("seen", "request_", "answer", "written"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_session(seen, request_, answer, written):
    decision = decide_session(seen, NOW, request_)
    match decision.outcome:
        case SessionAlive(_, remaining):
            assert ("alive", remaining) == answer
        case SessionOver(reason):
            assert (reason,) == answer
    write = decision.write
    if write is None:
        assert written is UNTOUCHED
    elif written == RENEWED:
        assert (write.version, write.mark, write.ended) == (4, None, None)
    else:
        assert (write.version, write.mark, write.ended, write.ended_at_us) == (4, 7, written, NOW)


def test_a_session_opens_with_its_ttl_before_it():
    decision = decide_session(None, NOW, OpenSession("s", "a", "uid", TTL))
    assert decision.write is not None
    assert decision.outcome == SessionAlive(decision.write, TTL, NOW + TTL)
    assert (decision.write.version, decision.write.holder, decision.write.instance) == (1, "a", "uid")


def test_an_id_is_used_once():
    with pytest.raises(AssertionError, match="used once"):
        decide_session(LIVE, NOW, OpenSession("s", "a", "", TTL))
