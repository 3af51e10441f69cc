"""The load: clients that contend for a few leases, mostly as clients do, now and then as they should not.
Half of what they take they take under a session of their own.

Owns what is asked. Every choice is a seed's; what comes of it is the machine's. Two clients share a name, so
that one may keep what the other has taken. Nobody renews for ever: a tenure is given up, or forgotten until
it has expired, so that the lease changes hands in every way.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

import trio
from msgspec.structs import replace

from tests.histories.operations import Kind, Operation, Told
from tests.histories.recorder import PATIENCE_SECONDS, Answer, Recorder

SECOND_US = 1_000_000
TTLS_SECONDS = (1, 1, 2)
SESSION_TTL_SECONDS = 2
WAIT_SECONDS = 1
BATCH_SHARE = 0.2
WAIT_SHARE = 0.05
SESSION_SHARE = 0.15
UNDER_SHARE = 0.5
OLD_SHARE = 0.1
NOBODY_SECONDS = 0.05

Choice = Kind | Literal["forget"]
Weights = dict[Choice, int]
HOLDING: Weights = {"renew": 50, "acquire": 10, "get": 15, "release": 15, "force": 1, "forget": 9}
WANTING: Weights = {"acquire": 60, "get": 25, "renew": 7, "release": 7, "force": 1}


class Client:
    """One client. After a request of unknown outcome it goes on under another name for the same holder."""

    def __init__(self, number: int, keys: Sequence[str], recorder: Recorder, rng: Random) -> None:
        self._number, self._life = number, 0
        self._holder = f"h{max(1, number)}"
        self._keys = keys
        self._recorder = recorder
        self._rng = rng
        self._held: dict[str, int] = {}
        self._known = dict.fromkeys(keys, 0)
        """The highest token that it has heard of."""

        self._session = ""
        self._under: dict[str, str] = {}
        """The session that it holds a lease under, or none."""

    async def run(self, url: Callable[[], str | None], until: float, pause_seconds: float) -> None:
        """Ask until then. What has been asked is waited for: its end belongs to the history."""
        while trio.current_time() < until:
            await trio.sleep(self._rng.uniform(0, pause_seconds))
            at = url()
            if at is None:
                await trio.sleep(NOBODY_SECONDS)
            elif self._rng.random() < SESSION_SHARE:
                await self._ask(at, [self._choose_for_session()])
            elif self._rng.random() < BATCH_SHARE:
                keys = self._rng.sample(self._keys, k=self._rng.randint(2, len(self._keys)))
                await self._ask(at, [each for key in keys if (each := self._choose(key))], batch=True)
            else:
                await self._ask(at, [each for each in [self._choose(self._rng.choice(self._keys))] if each])

    async def _ask(self, url: str, asked: list[Operation], *, batch: bool = False) -> None:
        if batch:
            asked = [each for each in asked if each.kind in ("acquire", "renew", "release")]
        if not asked:
            return
        waits = not batch and asked[0].waits
        if not waits:
            asked = [each if not each.waits else replace(each, waits=False) for each in asked]
        answers = await self._recorder.ask(
            url,
            asked,
            patience_seconds=self._rng.choice(PATIENCE_SECONDS),
            wait_seconds=WAIT_SECONDS if waits else 0,
        )
        for operation, answer in zip(asked, answers, strict=True):
            self._note(operation, answer)
        if "unknown" in answers:
            self._life += 1

    def _choose(self, key: str) -> Operation | None:
        """What to ask of the lease; nothing where its tenure is forgotten."""
        rng, holds = self._rng, key in self._held
        weights = HOLDING if holds else WANTING
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        if kind == "forget":
            del self._held[key]
            return None
        token = self._held.get(key, self._known[key])
        if rng.random() < OLD_SHARE:
            token -= 1
        elif kind == "renew" and holds and self._under[key] and rng.random() < 0.9:
            return self._operation("keep", session=self._under[key])
        if kind in ("renew", "release", "force") and token > 0:
            holder = "" if kind == "force" else self._holder
            ttl_us = self._ttl_us() if kind == "renew" else 0
            return self._operation(kind, key, holder=holder, token=token, ttl_us=ttl_us)
        if kind == "get":
            return self._operation("get", key)
        under = self._session if rng.random() < UNDER_SHARE else ""
        return self._operation(
            "acquire",
            key,
            holder=self._holder,
            ttl_us=0 if under else self._ttl_us(),
            session=under,
            waits=rng.random() < WAIT_SHARE,
        )

    def _choose_for_session(self) -> Operation:
        if not self._session or self._rng.random() < 0.03:  # the one before is forgotten, and expires
            return self._operation("open")
        return self._operation("end" if self._rng.random() < 0.1 else "keep", session=self._session)

    def _operation(self, kind: Kind, key: str = "", **more: Any) -> Operation:
        if kind in ("open", "keep"):
            more |= {"ttl_us": SESSION_TTL_SECONDS * SECOND_US}
        if kind == "open":
            more |= {"holder": self._holder}
        return Operation(f"{self._number}.{self._life}", kind, key, 0, **more)

    def _ttl_us(self) -> int:
        return self._rng.choice(TTLS_SECONDS) * SECOND_US

    def _note(self, asked: Operation, answer: Answer) -> None:
        if not isinstance(answer, Told):
            return
        if not asked.key:
            self._note_session(asked, answer)
            return
        self._known[asked.key] = max(self._known[asked.key], answer.token)
        if answer.word in ("granted", "renewed"):
            self._held[asked.key] = answer.token
            self._under[asked.key] = asked.session
        elif answer.word == "session_ended" and asked.session == self._session:
            self._session = ""
        elif answer.word in ("lost", "released", "not_holder"):
            self._held.pop(asked.key, None)

    def _note_session(self, asked: Operation, answer: Told) -> None:
        if asked.kind == "open":
            self._session = answer.session
        elif answer.word in ("over", "ended") and asked.session == self._session:
            self._session = ""


async def read_all(keys: Sequence[str], url: str, name: str, recorder: Recorder) -> None:
    """The state of every lease in the end, as one server tells it."""
    for key in keys:
        answer: Answer = "unknown"
        while not isinstance(answer, Told):
            asked = [Operation(name, "get", key, 0)]
            (answer,) = await recorder.ask(url, asked, patience_seconds=PATIENCE_SECONDS[1])
