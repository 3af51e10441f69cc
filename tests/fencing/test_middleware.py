"""The middleware on servers, WSGI and ASGI: who gets in, what the others are told, what is kept."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import trio

from berth.client.fencing import FencedAsgi, FencedWsgi, SqliteFence, SqlMarks, StaleToken, Stamp
from tests.fencing.sites import AsgiSite, asgi_site, file_marks, wsgi_site
from tests.fencing.targets import LEASE, HttpTarget


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks.db"


@pytest.fixture(params=[wsgi_site, asgi_site])
def site(request: pytest.FixtureRequest, marks: Path) -> Iterator[HttpTarget]:
    with request.param(marks) as url:
        yield HttpTarget(url)


def test_tokens_never_go_back(site: HttpTarget) -> None:
    for token in (7, 7, 8):
        site.write(token, "")
    with pytest.raises(StaleToken, match="8 has been seen"):
        site.write(7, "")
    assert [token for token, _ in site.effects()] == [7, 7, 8]


@pytest.mark.parametrize(
    ("headers", "code", "text"),
    [
        ([], "fencing_token_required", "send default/payments;TOKEN"),
        ([""], "invalid_fencing_token", "must be NAMESPACE/NAME;TOKEN"),
        (["7"], "invalid_fencing_token", "must be NAMESPACE/NAME;TOKEN"),
        (["default/payments;0"], "invalid_fencing_token", "must be NAMESPACE/NAME;TOKEN"),
        (["default/payments;x" + "y" * 500], "invalid_fencing_token", "…"),
        (["default/other;9"], "wrong_lease", "here lease default/payments counts"),
        (["default/payments;7", "default/payments;8"], "invalid_fencing_token", ""),
    ],
)
def test_what_is_not_a_stamp_of_this_lease_is_told_so(
    site: HttpTarget, headers: list[str], code: str, text: str
) -> None:
    status, reply = site.send("", *headers)
    assert (status, reply["code"]) == (400, code)
    assert text in reply["error"]
    assert len(reply["error"]) < 300
    assert site.effects() == []


def test_a_stale_token_is_a_conflict(site: HttpTarget) -> None:
    site.write(8, "")
    status, reply = site.send("", "default/payments;7")
    assert status == 409
    assert reply == {
        "error": "fencing token 7 of lease default/payments is stale: 8 has been seen",
        "code": "stale_token",
    }


def test_a_mark_is_written_once_a_token(site: HttpTarget, marks: Path) -> None:
    site.write(7, "")
    before = written(marks)
    for _ in range(3):
        site.write(7, "")
        site.send("", "default/payments;6")
    assert written(marks) == before
    site.write(8, "")
    assert written(marks) != before


def test_a_known_token_waits_for_no_writer(site: HttpTarget, marks: Path) -> None:
    site.write(7, "")
    with closing(sqlite3.connect(marks)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        site.write(7, "while the file is locked")


def written(marks: Path) -> tuple[int, bytes]:
    return marks.stat().st_mtime_ns, marks.read_bytes()


@pytest.mark.parametrize("restarted", [wsgi_site, asgi_site])
def test_a_mark_outlives_the_service_and_is_everybodys(site: HttpTarget, marks: Path, restarted: Any) -> None:
    site.write(8, "")
    with restarted(marks) as url:
        other = HttpTarget(url)
        with pytest.raises(StaleToken):
            other.write(7, "")
        other.write(9, "")
    with pytest.raises(StaleToken, match="9 has been seen"):
        site.write(8, "")


def test_a_mark_never_falls(marks: Path) -> None:
    kept = file_marks(marks)
    assert [kept.raise_to(Stamp.of(LEASE, token)) for token in (3, 2, 5, 4, 5)] == [3, 3, 5, 5, 5]


def test_a_mark_that_others_raise_meanwhile_counts(marks: Path) -> None:
    others = file_marks(marks)

    class Raced(SqliteFence):
        """Another process enters a higher token between the read and the write."""

        def check(self, cursor: Any, *, lease: str, token: int) -> None:
            others.raise_to(Stamp.of(lease, 9))
            super().check(cursor, lease=lease, token=token)

    raced = SqlMarks(Raced(), lambda: sqlite3.connect(marks))
    assert raced.raise_to(Stamp.of(LEASE, 8)) == 9


def test_without_its_marks_nothing_runs(marks: Path) -> None:
    kept = file_marks(marks)
    with closing(sqlite3.connect(marks)) as connection:
        connection.execute("DROP TABLE berth_fence")
    fenced = FencedWsgi(never, lease=LEASE, marks=kept)
    environ: dict[str, Any] = {"HTTP_BERTH_FENCING_TOKEN": "default/payments;7"}
    setup_testing_defaults(environ)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        fenced(environ, never)


def never(*args: Any) -> Any:
    raise AssertionError("the application must not run")


@pytest.mark.parametrize("lease", ["payments", "default/", "default/Payments", ""])
def test_what_is_no_lease_cannot_be_a_fence(lease: str, marks: Path) -> None:
    with pytest.raises(ValueError, match="must be"):
        FencedWsgi(never, lease=lease, marks=file_marks(marks))


def test_asyncio_will_do_too(marks: Path) -> None:
    fenced = FencedAsgi(never, lease=LEASE, marks=file_marks(marks), in_thread=asyncio.to_thread)
    file_marks(marks).raise_to(Stamp.of(LEASE, 8))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"berth-fencing-token", b"default/payments;7")]}
    asyncio.run(fenced(scope, never, send))
    assert sent[0]["status"] == 409
    assert b"stale_token" in sent[1]["body"]


async def test_a_websocket_is_refused(marks: Path) -> None:
    fenced = FencedAsgi(never, lease=LEASE, marks=file_marks(marks), in_thread=trio.to_thread.run_sync)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await fenced({"type": "websocket", "headers": []}, receive, send)
    assert sent == ["websocket.close"]


async def test_a_lifespan_reaches_the_application(marks: Path) -> None:
    site = AsgiSite(file_marks(marks))
    steps = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(steps)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await site({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
