"""The fence of object stores, by the manual's client against a store with ETags of the bytes."""

import json
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from berth.client.fencing import Contended, Objects, StaleToken, Stamp, Version, fenced_put
from tests.fencing import page
from tests.fencing.s3 import ObjectStore, Stored
from tests.fencing.targets import LEASE, bucket

KEY = "ledger"


def body(token: int, text: str = "") -> bytes:
    return f"{text} {Stamp.of(LEASE, token)}".encode()


@pytest.fixture
async def objects(store: ObjectStore) -> AsyncIterator[Objects]:
    async with bucket(store.url) as opened:
        yield opened


async def put(objects: Objects, token: int, text: str = "") -> None:
    await fenced_put(objects, KEY, body(token, text), lease=LEASE, token=token)


class Between:
    """A store where something happens each time after the object was looked at."""

    def __init__(self, objects: Objects, *steps: object) -> None:
        self.objects = objects
        self.steps = list(steps)
        self.looks = 0

    async def head(self, key: str) -> Version | None:
        version = await self.objects.head(key)
        self.looks += 1
        if self.steps:
            token, text = self.steps.pop(0)  # pyright: ignore[reportGeneralTypeIssues]
            await put(self.objects, token, text)
        return version

    async def put(self, key: str, body: bytes, *, metadata: Mapping[str, str], if_match: str | None) -> bool:
        return await self.objects.put(key, body, metadata=metadata, if_match=if_match)


async def test_tokens_never_go_back(objects: Objects, store: ObjectStore) -> None:
    for token in (7, 7, 8):
        await put(objects, token)
    with pytest.raises(StaleToken) as caught:
        await put(objects, 7)
    assert (caught.value.token, caught.value.highest) == (7, 8)
    assert store.puts == [body(7), body(7), body(8)]
    assert store.objects[f"/{KEY}"].metadata == {"berth-fencing-token": "default/payments;8"}


@pytest.mark.parametrize("seen", [None, 6])
async def test_a_newer_write_between_look_and_put_wins(
    objects: Objects, store: ObjectStore, seen: int | None
) -> None:
    if seen is not None:
        await put(objects, seen)
    with pytest.raises(StaleToken):
        await put(Between(objects, (8, "newer")), 7)
    assert store.puts[-1] == body(8, "newer")


async def test_an_older_write_between_look_and_put_comes_before(objects: Objects, store: ObjectStore) -> None:
    await put(Between(objects, (7, "older")), 8)
    assert store.puts == [body(7, "older"), body(8)]


async def test_the_same_payload_again_is_another_version(objects: Objects, store: ObjectStore) -> None:
    """The late writer looks at a payload that the newer tenure then replaces by the very same."""
    await put(objects, 7, "same")
    with pytest.raises(StaleToken):
        await put(Between(objects, (8, "same")), 7, "late")
    assert store.puts[-1] == body(8, "same")


async def test_a_body_without_its_stamp_is_refused(objects: Objects, store: ObjectStore) -> None:
    for unstamped in (b"", body(8), b"default/payments"):
        with pytest.raises(ValueError, match="must contain its stamp, default/payments;7"):
            await fenced_put(objects, KEY, unstamped, lease=LEASE, token=7)
    assert store.puts == []


async def test_tries_end(objects: Objects) -> None:
    busy = Between(objects, *((7, f"other {n}") for n in range(10)))
    with pytest.raises(Contended, match="4 times in a row"):
        await put(busy, 7)
    assert busy.looks == 4


async def test_an_object_from_before_the_fence_is_taken_over(objects: Objects, store: ObjectStore) -> None:
    store.objects[f"/{KEY}"] = Stored(b"old", {})
    await put(objects, 7)
    assert store.puts == [body(7)]


@pytest.mark.parametrize(
    ("text", "match"),
    [("default/other;1", "is fenced by lease default/other"), ("nonsense", "must be NAMESPACE/NAME;TOKEN")],
)
async def test_an_object_that_others_fence_is_left_alone(
    objects: Objects, store: ObjectStore, text: str, match: str
) -> None:
    store.objects[f"/{KEY}"] = Stored(b"theirs", {"berth-fencing-token": text})
    with pytest.raises(ValueError, match=match):
        await put(objects, 7)
    assert store.puts == []


async def test_a_fault_of_the_store_is_no_refusal() -> None:
    async with bucket("http://127.0.0.1:9") as nowhere:
        with pytest.raises(httpx.ConnectError):
            await put(nowhere, 7)


async def test_the_manual_publishes(objects: Objects, store: ObjectStore) -> None:
    publish = page.names(page.example("class HttpObjects"), page.example("async def publish"))["publish"]
    await publish(objects, {"EUR": 1.0}, 7)
    assert json.loads(store.objects["/rates.json"].body)["rates"] == {"EUR": 1.0}
    with pytest.raises(StaleToken):
        await publish(objects, {"EUR": 2.0}, 6)
