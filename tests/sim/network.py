"""Network: how requests get from processes to servers, and replies back, and what happens to them on the way.

Owns latency, loss, resets, duplicates, partitions (also of one direction), and the memory of requests that
may be delivered again much later. Promises what `berth.runtime.http` does: a request that is told as not sent
never arrives. The network lives outside all processes: what is under way gets on, whoever is paused or dead.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import trio

from berth.runtime.http import NotSent, OutcomeUnknown, Reply
from tests.sim.engine import Process
from tests.sim.ledger import Ledger
from tests.sim.streams import Stream

MEMORY = 400
"""How many requests are remembered, to be delivered again."""


@dataclass
class Weather:
    """What the network does to each message at the moment."""

    latency_seconds: float = 0.02
    loss: float = 0.0
    slow: float = 0.0
    """How many messages take very long, up to `slow_seconds`."""
    slow_seconds: float = 6.0
    twice: float = 0.0
    reset: float = 0.0
    """How many exchanges break off with an error, before or after the request has arrived."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def what(self) -> str:
        return f"{self.method} {self.target} {self.body.decode()}"


@dataclass(eq=False)
class Flight:
    """One delivery of a request. `answered` is set when the server has answered, or its machine broke off."""

    request: Request
    answered: trio.Event = field(default_factory=trio.Event)
    reply: Reply | None = None
    reset: bool = False
    late: bool = False
    """It is a copy of a request that somebody sent some time ago."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stream: Stream | None = None

    def answer(self, reply: Reply) -> None:
        self.reply = reply
        self.answered.set()

    def break_off(self) -> None:
        self.reset = True
        self.answered.set()
        if self.stream is not None:
            self.stream.end("connection reset")


class Endpoint(Protocol):
    """A server as the network sees it."""

    @property
    def listening(self) -> bool: ...

    def accept(self, flight: Flight) -> None: ...


class Exchange:
    """One request as its sender waits for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: Reply | None = None
        self.fault: str = ""
        self.sent = False
        self.hung_up = False
        self.stream: Stream | None = None
        self.flight: Flight | None = None


class Network:
    """All that is between clients and servers."""

    def __init__(self, rng: Random, ledger: Ledger, nursery: trio.Nursery) -> None:
        self.weather = Weather()
        self.endpoints: dict[str, Endpoint] = {}
        self.cut: set[tuple[str, str]] = set()
        """(from, to): nothing gets through in this direction."""
        self.kept_for_later = 0.3
        """How many of the requests that are lost arrive after all."""
        self.delays: dict[tuple[str, str], float] = {}
        """(from, to): so many seconds more in this direction."""
        self.slowed: dict[str, float] = {}
        """Requests that hold this text take so many seconds more."""
        self.hang_up_seconds: float | None = None
        """How long it takes until a server notices that a caller has gone; None: as it happens, or never."""
        self._rng = rng
        self._ledger = ledger
        self._nursery = nursery
        self._remembered: deque[Request] = deque(maxlen=MEMORY)
        self._unanswered: set[str] = set()
        self._forgetful = False

    async def exchange(
        self, source: Process, target: str, request: Request, timeout_seconds: float, exchange: Exchange
    ) -> Reply:
        """The reply, as a client's channel gives it. Raises NotSent or OutcomeUnknown."""
        if source.dead:
            raise NotSent("the process is dead")
        try:
            with trio.move_on_after(timeout_seconds):
                await trio.sleep(self._rng.choice((0.0, 0.0, 0.001, 0.01)))
                self._nursery.start_soon(self._carry, source.name, target, request, exchange)
                await exchange.done.wait()
        finally:
            if exchange.stream is None:
                self.hang_up(exchange)
        if exchange.reply is not None:
            return exchange.reply
        kind = OutcomeUnknown if exchange.sent else NotSent
        fault = kind(exchange.fault or f"{target} did not answer in time")
        fault.silent = not exchange.fault
        raise fault

    def hang_up(self, exchange: Exchange) -> None:
        """The sender has gone; the server may notice."""
        exchange.hung_up = True
        noticed = self.hang_up_seconds is not None or self._rng.random() < 0.5
        if exchange.flight is not None and noticed:
            self._nursery.start_soon(self._hang_up, exchange.flight)

    def replay(self, matching: str = "") -> None:
        """Deliver a request that was sent before once more, anywhere."""
        remembered = [request for request in self._remembered if matching in request.what]
        if remembered:
            request = self._rng.choice(remembered)
            server = self._rng.choice(sorted(self.endpoints))
            self._ledger.faults["late duplicate"] += 1
            self._nursery.start_soon(self._deliver, server, request, self._latency(), True)

    def forget(self) -> None:
        """What was to be delivered late will not be."""
        self._forgetful = True

    async def _carry(self, source: str, target: str, request: Request, exchange: Exchange) -> None:
        there_seconds = self._latency() + self.delays.get((source, target), 0.0)
        there_seconds += sum(seconds for text, seconds in self.slowed.items() if text in request.what)
        if exchange.hung_up:
            return
        if (source, target) in self.cut and self._rng.random() < 0.5:
            return  # no connection could be made: silence, and nothing was sent
        exchange.sent = True
        self._remembered.append(request)
        if self._lost(source, target):
            self._ledger.faults["request lost"] += 1
            if self._rng.random() < self.kept_for_later:
                # As data that is sent again, and again, until the way is free.
                await self._deliver(target, request, self._rng.uniform(0, 30), late=True)
            return
        if self._rng.random() < self.weather.twice:
            self._ledger.faults["request doubled"] += 1
            again_seconds = there_seconds + self._rng.expovariate(0.5)
            self._nursery.start_soon(self._deliver, target, request, again_seconds, False)
        await trio.sleep(there_seconds)
        if not self.endpoints[target].listening:
            exchange.sent = False
            self._settle(exchange, "connection refused")
            return
        flight = exchange.flight = Flight(request)
        if self._rng.random() < self.weather.reset:
            self._ledger.faults["connection reset"] += 1
            self._settle(exchange, "connection reset")
            if self._rng.random() < 0.5:
                return
        self.endpoints[target].accept(flight)
        await flight.answered.wait()
        await self._carry_back(target, source, flight, exchange)

    async def _carry_back(self, source: str, target: str, flight: Flight, exchange: Exchange) -> None:
        await trio.sleep(self._latency() + self.delays.get((source, target), 0.0))
        if flight.reset:
            self._settle(exchange, "connection reset")
        elif self._lost(source, target):
            self._ledger.faults["reply lost"] += 1
            self._unanswered.add(flight.request.what)
        elif not exchange.done.is_set():
            if flight.request.what in self._unanswered:
                self._unanswered.discard(flight.request.what)
                self._ledger.seen["a lost reply, then a retry"] += 1
            exchange.reply = flight.reply
            if flight.stream is not None:
                exchange.stream = Stream()
                self._nursery.start_soon(
                    self._carry_stream, source, target, flight, flight.stream, exchange.stream
                )
            exchange.done.set()

    async def _deliver(self, target: str, request: Request, after_seconds: float, late: bool) -> None:
        await trio.sleep(after_seconds)
        if self.endpoints[target].listening and not self._forgetful:
            self.endpoints[target].accept(Flight(request, late=late))

    async def _carry_stream(
        self, source: str, target: str, flight: Flight, here: Stream, there: Stream
    ) -> None:
        """Chunk by chunk, until one is lost: then all that follow are, and perhaps somebody notices."""
        while (chunk := await here.next()) is not None:
            await trio.sleep(self._latency())
            if self._lost(source, target):
                self._ledger.faults["stream broken"] += 1
                if self._rng.random() < 0.7:
                    there.end("connection reset")
                flight.scope.cancel()
                return
            there.put(chunk)
        await trio.sleep(self._latency())
        there.end(here.over or "")

    async def _hang_up(self, flight: Flight) -> None:
        """The server notices that nobody waits any more."""
        await trio.sleep(self._latency() if self.hang_up_seconds is None else self.hang_up_seconds)
        flight.scope.cancel()

    def _settle(self, exchange: Exchange, fault: str) -> None:
        exchange.fault = fault
        exchange.done.set()

    def _lost(self, source: str, target: str) -> bool:
        return (source, target) in self.cut or self._rng.random() < self.weather.loss

    def _latency(self) -> float:
        if self._rng.random() < self.weather.slow:
            self._ledger.faults["message slow"] += 1
            return self._rng.uniform(0, self.weather.slow_seconds)
        return self._rng.uniform(0.1, 1.9) * self.weather.latency_seconds
