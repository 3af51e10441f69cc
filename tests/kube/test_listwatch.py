"""The state machine alone: whatever way the bytes are cut, and whatever the server refuses."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.kube.listwatch import (
    LINE_MAX_BYTES,
    PAUSE_MAX_SECONDS,
    SILENT_WATCHES_MAX,
    STALE_LISTS_MAX,
    Change,
    ListPage,
    ListWatch,
    Pause,
    Progress,
    Put,
    Removed,
    Snapshot,
    StartWatch,
)

Object = dict[str, Any]


def obj(name: str, version: int) -> Object:
    return {"metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(version)}}


def line(kind: str, content: Object) -> bytes:
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


def error(code: int, reason: str = "") -> bytes:
    return line("ERROR", {"kind": "Status", "code": code, "reason": reason})


def machine() -> ListWatch:
    return ListWatch(Random(1))


def ask(one: ListWatch) -> ListPage | StartWatch:
    """The next request; pauses are waited for, and may not follow each other."""
    command = one.next_command()
    if isinstance(command, Pause):
        assert 0 < command.seconds <= PAUSE_MAX_SECONDS + 1
        command = one.next_command()
    assert not isinstance(command, Pause)
    return command


def watching(version: int = 10) -> ListWatch:
    one = machine()
    assert one.next_command() == ListPage(500, "")
    assert one.page([], str(version), "") is not None
    assert one.next_command() == StartWatch(str(version))
    return one


def test_a_list_comes_in_pages_and_is_told_whole() -> None:
    one = machine()
    assert one.next_command() == ListPage(500, "")
    assert one.page([obj("a", 1)], "10", "more") is None
    assert one.next_command() == ListPage(500, "more")
    assert one.page([obj("b", 2)], "10", "") == Snapshot([obj("a", 1), obj("b", 2)], "10", False)
    assert one.next_command() == StartWatch("10")


def test_an_expired_list_begins_anew_and_in_one() -> None:
    one = machine()
    one.next_command()
    one.page([obj("a", 1)], "10", "more")
    one.next_command()
    one.failed(expired=True)
    assert ask(one) == ListPage(0, "")
    assert one.page([obj("b", 2)], "20", "") == Snapshot([obj("b", 2)], "20", False)


def test_events_are_told_in_order() -> None:
    one = watching()
    data = line("ADDED", obj("a", 11)) + line("MODIFIED", obj("a", 12)) + line("DELETED", obj("a", 13))
    assert one.received(data + line("BOOKMARK", obj("", 15))) == [
        Put(obj("a", 11)),
        Put(obj("a", 12)),
        Removed(obj("a", 13)),
        Progress("15"),
    ]
    one.ended(clean=True)
    assert one.next_command() == StartWatch("15")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]),
        st.text(max_size=8),
        st.integers(min_value=1, max_value=3),
    ),
    max_size=12,
)


@given(EVENTS, st.data())
def test_any_cut_of_the_stream_tells_the_same(
    events: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    version, stream = 10, b""
    for kind, name, step in events:
        version += step
        stream += line(kind, obj(name, version))
    expected = watching().received(stream)
    assert len(expected) == len(events)
    cuts = sorted(data.draw(st.lists(st.integers(min_value=0, max_value=len(stream)), max_size=20)))
    one = watching()
    told: list[Change] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        told += one.received(stream[start:end])
    assert told == expected
    assert one.resource_version == str(version)


@given(EVENTS, st.integers(min_value=0))
def test_a_stream_that_breaks_goes_on_where_it_was(events: list[tuple[str, str, int]], at: int) -> None:
    """Wherever it breaks, what was told and what is told from there on is everything, once."""
    version, lines, versions = 10, [], []
    for kind, name, step in events:
        version += step
        lines.append(line(kind, obj(name, version)))
        versions.append(version)
    stream = b"".join(lines)
    one = watching()
    told = one.received(stream[: at % (len(stream) + 1)])
    one.ended(clean=False)
    command = ask(one)
    assert isinstance(command, StartWatch)
    since = int(command.resource_version)
    told += one.received(
        b"".join(text for text, one_version in zip(lines, versions, strict=True) if one_version > since)
    )
    assert told == watching().received(stream)


def test_what_is_not_newer_is_not_told() -> None:
    one = watching(10)
    assert one.received(line("MODIFIED", obj("a", 9)) + line("MODIFIED", obj("a", 10))) == []
    assert one.received(line("MODIFIED", obj("a", 12))) == [Put(obj("a", 12))]
    assert one.received(line("DELETED", obj("a", 11)) + line("BOOKMARK", obj("", 11))) == []
    assert one.resource_version == "12"


@pytest.mark.parametrize("said", [error(410, "Expired"), error(410), error(0, "Gone"), error(500)])
def test_an_error_lists_again(said: bytes) -> None:
    one = watching()
    assert one.received(said + line("ADDED", obj("a", 11))) == []
    assert not one.watching
    one.ended(clean=True)
    assert isinstance(one.next_command(), Pause)
    assert one.next_command() == ListPage(500, "")


def test_too_old_a_watch_lists_again() -> None:
    one = watching()
    one.failed(expired=True)
    assert isinstance(one.next_command(), Pause)
    assert one.next_command() == ListPage(500, "")


@pytest.mark.parametrize("said", [b"nonsense\n", b"[]\n", b'{"type":"ADDED"}\n', b"\xff\n"])
def test_what_is_no_event_ends_the_watch_but_not_what_was_told(said: bytes) -> None:
    one = watching()
    assert one.received(line("ADDED", obj("a", 11)) + said) == [Put(obj("a", 11))]
    assert not one.watching
    assert isinstance(one.next_command(), Pause)
    assert one.next_command() == StartWatch("11")


def test_a_line_without_an_end_is_not_collected_for_ever() -> None:
    one = watching()
    assert one.received(b'{"type":"ADDED","object":"') == []
    piece = b"x" * (LINE_MAX_BYTES // 4)
    for _ in range(4):
        assert one.watching
        one.received(piece)
    assert not one.watching
    assert ask(one) == StartWatch("10")


def test_events_of_kinds_to_come_are_passed_over() -> None:
    one = watching()
    assert one.received(line("NEWS", obj("a", 11)) + line("ADDED", {"metadata": {}})) == []
    assert one.watching


def test_an_older_list_is_not_believed_until_it_is_all_there_is() -> None:
    one = watching()
    one.received(line("ADDED", obj("a", 20)) + error(410))
    for _ in range(STALE_LISTS_MAX):
        assert ask(one) == ListPage(500, "")
        assert one.page([], "15", "") is None
    assert ask(one) == ListPage(500, "")
    assert one.page([], "15", "") == Snapshot([], "15", True)
    assert ask(one) == StartWatch("15")
    assert one.received(line("ADDED", obj("b", 16))) == [Put(obj("b", 16))]


def test_a_server_that_lags_is_asked_again() -> None:
    one = watching()
    one.received(line("ADDED", obj("a", 20)) + error(410))
    ask(one)
    assert one.page([], "15", "") is None
    assert ask(one) == ListPage(500, "")
    assert one.page([obj("a", 20)], "21", "") == Snapshot([obj("a", 20)], "21", False)


def test_failures_are_followed_by_longer_pauses_and_success_by_none() -> None:
    one = machine()
    pauses: list[float] = []
    for _ in range(200):
        assert isinstance(ask(one), ListPage)
        one.failed()
        pauses.append(one._pause_seconds)
    assert sum(pauses[:4]) / 4 < 1
    assert 10 < sum(pauses[100:]) / 100 < 20
    assert isinstance(ask(one), ListPage)
    one.page([], "10", "")
    assert one.next_command() == StartWatch("10")
    one.received(line("BOOKMARK", obj("", 11)))
    one.ended(clean=True)
    assert one.next_command() == StartWatch("11")
    one.ended(clean=False)
    assert one._pause_seconds < 0.3


def test_watches_that_end_at_once_are_not_begun_in_a_hot_loop() -> None:
    one = watching()
    paused = 0.0
    for _ in range(50):
        one.ended(clean=True)
        command = one.next_command()
        assert isinstance(command, Pause)
        paused += command.seconds
        if isinstance(one.next_command(), ListPage):
            one.page([], "10", "")
            assert one.next_command() == StartWatch("10")
    assert paused > 300


@pytest.mark.parametrize("clean", [True, False])
def test_after_watches_that_told_nothing_it_lists(clean: bool) -> None:
    """A server that was restored takes a watch from where it has not come to yet, and says nothing."""
    one = watching()
    for _ in range(SILENT_WATCHES_MAX - 1):
        one.ended(clean=clean)
        assert ask(one) == StartWatch("10")
    for version in (11, 11):
        one.received(line("BOOKMARK", obj("", version)))
        one.ended(clean=clean)
        assert ask(one) == StartWatch("11"), "it has told something, if only that nothing has changed"
    for _ in range(SILENT_WATCHES_MAX - 1):
        one.ended(clean=clean)
        assert ask(one) == StartWatch("11")
    one.ended(clean=clean)
    assert isinstance(ask(one), ListPage)


def test_who_is_in_doubt_lists() -> None:
    one = watching()
    one.doubt()
    assert not one.watching
    assert isinstance(one.next_command(), Pause)
    one.doubt()
    assert one.next_command() == ListPage(500, ""), "it is about to"


def test_lists_that_are_always_too_old_for_their_watch_are_not_made_in_a_hot_loop() -> None:
    one = machine()
    paused = 0.0
    for _ in range(50):
        command = one.next_command()
        while isinstance(command, Pause):
            paused += command.seconds
            command = one.next_command()
        one.page([], "10", "")
        one.next_command()
        one.received(error(410))
    assert paused > 300


def test_a_server_that_asks_for_patience_gets_it() -> None:
    one = machine()
    one.next_command()
    one.failed(retry_after_seconds=17)
    assert one.next_command() == Pause(17)
