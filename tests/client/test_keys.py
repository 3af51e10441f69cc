"""The API key: where it comes from, when it is read again, and that nobody sees it."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from berth.client import BerthClient, BerthError, Misconfigured, NotAllowed
from tests.client.conftest import Connect
from tests.client.scripted import Scripted, answer, problem
from tests.client.test_believing import acquire

OK = answer(200, b"ok")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("first-key\n")
    return path


def signed_with(server: Scripted) -> list[str]:
    return [request.headers["authorization"] for request in server.requests]


async def test_a_key_is_sent_as_a_bearer(server: Scripted, connect: Connect) -> None:
    client = await connect(server, api_key=" s3cret\n")
    server.will(OK)
    await client.ping()
    assert signed_with(server) == ["Bearer s3cret"]


async def test_a_replaced_file_is_read_within_a_second(
    server: Scripted, connect: Connect, key_file: Path, mock_clock: MockClock
) -> None:
    client = await connect(server, api_key_file=key_file)
    server.will(OK, OK, OK)
    await client.ping()
    replace(key_file, b"second-key")
    mock_clock.jump(0.9)
    await client.ping()
    mock_clock.jump(0.2)
    await client.ping()
    assert signed_with(server) == ["Bearer first-key", "Bearer first-key", "Bearer second-key"]


@pytest.mark.parametrize("content", [b"", None, b"\xff\x00", b"two words"])
async def test_a_file_that_cannot_be_used_leaves_the_last_good_key(
    server: Scripted, connect: Connect, key_file: Path, mock_clock: MockClock, content: bytes | None
) -> None:
    client = await connect(server, api_key_file=key_file)
    server.will(OK)
    replace(key_file, content)
    mock_clock.jump(2)
    await client.ping()
    assert signed_with(server) == ["Bearer first-key"]


async def test_a_refused_key_is_read_again_and_the_call_repeated_once(
    server: Scripted, connect: Connect, key_file: Path, mock_clock: MockClock
) -> None:
    client = await connect(server, api_key_file=key_file)
    server.will(OK, problem(401, "unauthenticated"), OK)
    await client.ping()
    replace(key_file, b"second-key")
    await client.ping()
    assert signed_with(server) == ["Bearer first-key", "Bearer first-key", "Bearer second-key"]


async def test_but_not_with_the_same_key(
    server: Scripted, connect: Connect, key_file: Path, mock_clock: MockClock
) -> None:
    client = await connect(server, api_key_file=key_file)
    server.will(problem(401, "unauthenticated"), OK)
    with pytest.raises(NotAllowed):
        await client.ping()
    assert len(server.requests) == 1


async def test_and_not_twice(
    server: Scripted, connect: Connect, key_file: Path, mock_clock: MockClock
) -> None:
    client = await connect(server, api_key_file=key_file)
    server.will(OK, *[problem(401, "unauthenticated")] * 2, OK)
    await client.ping()
    replace(key_file, b"second-key")
    with pytest.raises(NotAllowed):
        await client.ping()
    assert len(server.requests) == 3


def replace(path: Path, content: bytes | None) -> None:
    """Puts a new file in the old one's place, as those do who rotate keys; None takes it away."""
    if content is None:
        path.unlink()
        return
    newer = path.with_name("newer")
    newer.write_bytes(content)
    newer.replace(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"two words", "one word of printable ASCII"),
        (b"k\xc3\xa9y", "one word of printable ASCII"),
        (b"x" * 9000, "longer than 8192 bytes"),
    ],
)
def test_a_file_without_a_key_is_refused_at_once(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match=text) as caught:
        BerthClient("https://localhost", api_key_file=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", ["", "\n", "two words", "new\nline", "naïve"])
def test_so_is_a_key_that_no_header_could_carry(key: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        BerthClient("https://localhost", api_key=key)
    assert key.strip() == "" or key not in str(caught.value)


def test_a_key_is_given_in_one_way(key_file: Path) -> None:
    with pytest.raises(Misconfigured, match="exclude each other"):
        BerthClient("https://localhost", api_key="k", api_key_file=key_file)


async def test_no_repr_and_no_error_shows_it(server: Scripted, connect: Connect) -> None:
    client = await connect(server, api_key="s3cret")
    server.will(problem(401, "unauthenticated"), answer(500))
    shown = [repr(client), str(vars(client))]
    for _ in range(2):
        with pytest.raises(BerthError) as caught:
            await acquire(client)
        shown += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert not [text for text in shown if "s3cret" in text]
