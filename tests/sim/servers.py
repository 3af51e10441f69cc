"""Servers: the real handlers over the real service, as processes that start, stop and crash.

Owns what the framework does in a real server: from a request's bytes to the handler by the table of routes,
and from what the handler answers or raises to a reply. Tells the audit what has arrived and what is answered.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
import trio

from berth.core.names import Key
from berth.core.requests import Acquired
from berth.roles.apiserver.ask import Ask, Lines
from berth.roles.apiserver.auth import ANYBODY, Identity
from berth.roles.apiserver.handlers import Handlers
from berth.roles.apiserver.observe import Entry
from berth.runtime.asgi import CutOff
from berth.runtime.http import Reply
from berth.runtime.log import Logger
from berth.service.leases import LeaseService, open_leases
from berth.service.limits import Limits, LimitSettings
from berth.service.rounds import Origin
from berth.service.sweeper import Sweeping
from berth.store.api import StoreFault
from berth.wire import batch, routes
from berth.wire.checks import BodyDecoder, TtlBounds
from berth.wire.problems import Failure
from berth.wire.replies import watch_line
from berth.wire.shapes import (
    AcquireReply,
    BatchAcquire,
    BatchRelease,
    BatchRenew,
    BatchReply,
    BatchResult,
    ErrorReply,
    ForceReleaseBody,
    ForceReleaseReply,
    ReleaseBody,
    RenewBody,
    SessionObject,
)
from tests.sim.hosts import Host
from tests.sim.ledger import Ledger, innermost
from tests.sim.line import Line, Place
from tests.sim.logs import SimLogger
from tests.sim.network import Flight, Request
from tests.sim.stores import AuditedStore
from tests.sim.streams import Stream

BOUNDS = TtlBounds(1, 3600)

_encode = msgspec.json.Encoder().encode
_ROUTES = [
    (operation, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path)))
    for operation in routes.OPERATIONS
]


def _body(operation: routes.Operation, request: Request) -> Any:
    if operation is routes.BATCH:
        return batch.operations(request.body)
    return _decoder(operation)(request.body)


@cache
def _decoder(operation: routes.Operation) -> BodyDecoder:
    assert operation.body is not None
    return BodyDecoder(operation.body)


class SimServer:
    """One API server. `open_store` makes what it stands on, anew with each start."""

    def __init__(
        self,
        host: Host,
        open_store: Callable[[Host], AuditedStore],
        *,
        ledger: Ledger,
        rng: Random,
        identities: Mapping[str, Identity],
        sweep_seconds: float,
        nursery: trio.Nursery,
    ) -> None:
        self.host = host
        self._open_store = open_store
        self._ledger = ledger
        self._logger: Logger = SimLogger(ledger)
        self._rng = rng
        self._identities = identities
        self._sweeping = Sweeping(sweep_seconds, 0.5)
        self._outside = nursery
        self._handlers: Handlers | None = None
        self._service: LeaseService | None = None
        self._line = Line(ledger)
        self._inside: trio.Nursery | None = None
        self._flights: set[Flight] = set()
        self._down = trio.Event()
        self._audit: Any = None

    @property
    def listening(self) -> bool:
        return self._inside is not None

    def start(self) -> None:
        self._ledger.note(self.host.name, "starts")
        self.host.process.spawn(self._outside, self._run)

    async def stop(self) -> None:
        """As by SIGTERM: it takes nothing new, and ends what is in flight, for two seconds at most."""
        self._ledger.note(self.host.name, "drains")
        down, inside, self._inside = self._down, self._inside, None
        assert inside is not None
        assert self._service is not None
        self._service.end_waiting()
        with trio.move_on_after(2):
            for flight in list(self._flights):
                await flight.answered.wait()
        inside.cancel_scope.cancel()
        await down.wait()
        self._break_off()

    def crash(self) -> None:
        """As by SIGKILL: in the middle of whatever it does."""
        self._ledger.note(self.host.name, "crashes", len(self._flights), "in flight")
        self.host.crash()
        self._inside = None
        self._break_off()

    def accept(self, flight: Flight) -> None:
        assert self._inside is not None
        self._flights.add(flight)
        self.host.process.spawn(self._inside, self._serve, flight)

    def _break_off(self) -> None:
        for flight in sorted(self._flights, key=lambda each: each.request.what):
            flight.break_off()
        self._flights.clear()

    async def _run(self) -> None:
        self._down = trio.Event()
        store = self._open_store(self.host)
        try:
            async with (
                open_leases(
                    store,
                    clock=self.host.clock,
                    rng=self._rng,
                    logger=self._logger,
                    audit=self._logger,
                    sweeping=self._sweeping,
                    limits=Limits(LimitSettings(), now_us=self.host.clock.boot_us, refused=lambda _: None),
                    encode=watch_line,
                ) as service,
                trio.open_nursery() as nursery,
            ):
                self._audit = store.audit
                self._line = Line(self._ledger)
                self._service = service
                self._note_what_is_taken_back(service)
                self._handlers = Handlers(
                    service,
                    bounds=BOUNDS,
                    auth_mode="none",
                    logger=self._logger,
                    waiting=lambda _: None,
                    watching=lambda _: None,
                )
                self._inside = nursery
                await self._run_on(nursery)
        except* Exception as defects:  # noqa: BLE001 - it would end the process
            self._ledger.fail(f"a defect ends the server: {innermost(defects)!r}")
        finally:
            self._down.set()

    async def _run_on(self, nursery: trio.Nursery) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._inside is nursery and not self.host.process.dead:
                self._inside = None
                self._ledger.fail(f"a defect: the service of {self.host.name} has ended by itself")

    def _note_what_is_taken_back(self, service: LeaseService) -> None:
        """The server releases by itself what it granted to somebody who has gone."""
        waiters = service._waiters
        real = waiters.give_back

        async def give_back(key: Key, granted: Acquired, origin: Origin) -> None:
            self._audit.asked("release", key, granted.view.holder, granted.view.token)
            self._ledger.seen["a grant taken back from who has gone"] += 1
            self._ledger.note("taken back", key, granted.view.holder, granted.view.token)
            self._ledger.taken_back.add((key, granted.view.token))
            await real(key, granted, origin)

        waiters.give_back = give_back

    async def _serve(self, flight: Flight) -> None:
        """From the request to the answer, as the outermost layers of a real server do it."""
        self._ledger.requests += 1
        entry = Entry("sim")
        with flight.scope:
            try:
                with entry.closing, self._line.place(flight.request) as place:
                    reply, lines = await self._respond(flight.request, entry, place)
                    await trio.lowlevel.checkpoint()
                    entry.answered = True
                    self._note(flight, reply)
                    flight.stream = Stream() if lines is not None else None
                    flight.answer(reply)
                    if lines is not None:
                        await self._go_on(flight, lines)
            finally:
                if entry.take_back is not None and not entry.answered:
                    with trio.CancelScope(shield=True):
                        await entry.take_back()
        if flight.scope.cancelled_caught:
            flight.break_off()
        self._flights.discard(flight)

    async def _go_on(self, flight: Flight, lines: Lines) -> None:
        assert flight.stream is not None
        try:
            async for chunk in lines.lines:
                flight.stream.put(chunk)
        except CutOff:
            flight.stream.end("cut off")
        flight.stream.end()

    async def _respond(self, request: Request, entry: Entry, place: Place) -> tuple[Reply, Lines | None]:
        try:
            operation, ask = self._ask(request, entry)
            self._arrived(operation, ask, request)
            assert self._handlers is not None
            answer = await self._handlers.by_operation[operation.id](ask)
        except Failure as failure:
            return _failed(failure), None
        except StoreFault as fault:
            code = "store_unavailable" if fault.outcome_known else "outcome_unknown"
            return _failed(Failure(code, retry_after_seconds=fault.retry_after_seconds)), None
        except Exception as defect:  # noqa: BLE001 - as in the real server, but here it fails the run
            self._ledger.fail(f"a defect: {defect!r} of {request.what}")
            return _failed(Failure("internal")), None
        self._answered(operation, ask, request, answer, place)
        if isinstance(answer, Lines):
            return Reply(200, {"content-type": "application/x-ndjson"}, b""), answer
        if answer is None:
            return Reply(operation.status, {}, b""), None
        return Reply(operation.status, {"content-type": "application/json"}, _encode(answer) + b"\n"), None

    def _ask(self, request: Request, entry: Entry) -> tuple[routes.Operation, Ask]:
        path, _, query = request.target.partition("?")
        for operation, pattern in _ROUTES:
            match = pattern.fullmatch(path)
            if match and operation.method == request.method:
                break
        else:
            raise Failure("not_found", "no such path")

        async def read_body() -> object:
            await trio.lowlevel.checkpoint()
            return _body(operation, request)

        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        identity = self._identities.get(key, ANYBODY)
        parts = {name: unquote(part) for name, part in match.groupdict().items()}
        return operation, Ask(operation, identity, entry, parts, dict(parse_qsl(query)), read_body)

    def _arrived(self, operation: routes.Operation, ask: Ask, request: Request) -> None:
        """Tell the audit of what may end a tenure or a session."""
        body = _body(operation, request) if operation.body is not None else None
        match body:
            case ReleaseBody():
                self._audit.asked("release", _key(ask), body.holder, body.fencing_token)
            case ForceReleaseBody():
                self._audit.asked("force", _key(ask), body.fencing_token)
            case list():
                for each in body:
                    if isinstance(each, BatchRelease):
                        key = Key(each.namespace, each.name)
                        self._audit.asked("release", key, each.holder, each.fencing_token)
            case _ if operation is routes.END_SESSION:
                self._audit.asked("end", ask.parts["id"])
            case _:
                pass

    def _answered(
        self, operation: routes.Operation, ask: Ask, request: Request, answer: object, place: Place
    ) -> None:
        match answer:
            case AcquireReply():
                self._told(_key(ask), _body(operation, request), answer, place.since)
                if answer.acquired and self._audit.is_news(_key(ask), answer.fencing_token, place.since):
                    self._line.took(place)
                if isinstance(answer.wait_position, int):
                    self._line.ended_empty(place)
            case ForceReleaseReply():
                forced = answer.released.fencing_token
                self._audit.told_force(_key(ask), forced, answer.may_act_for_seconds)
            case SessionObject(alive=True) if request.method == "POST":
                self._audit.alive(answer.id, place.since)
            case BatchReply():
                for each, result in zip(_body(operation, request), answer.results, strict=True):
                    if isinstance(each, BatchAcquire | BatchRenew) and result.status == 200:
                        self._told(Key(each.namespace, each.name), each, result, place.since)
            case _:
                pass

    def _told(self, key: Key, asked: object, reply: AcquireReply | BatchResult, since: float) -> None:
        """Somebody is being told what came of his acquire or renewal."""
        if not reply.acquired:
            return
        self._audit.granted(key, reply.holder, reply.fencing_token, since)
        if isinstance(asked, RenewBody | BatchRenew) and asked.fencing_token != reply.fencing_token:
            meant = f"{asked.fencing_token} of {key} was meant"
            self._ledger.fail(f"token: {reply.fencing_token} is renewed where {meant}")

    def _note(self, flight: Flight, reply: Reply) -> None:
        request = flight.request
        late = "late" if flight.late else ""
        self._ledger.note(self.host.name, request.what, late, reply.status, reply.body[:160].decode())
        if flight.late and (b'"acquired":false' in reply.body or reply.status == 409):
            self._ledger.seen["a late duplicate, rejected"] += 1
        if b'"quarantine"' in reply.body:
            self._ledger.seen["a quarantine"] += 1


def _key(ask: Ask) -> Key:
    return Key(ask.parts["namespace"], ask.parts["name"])


def _failed(failure: Failure) -> Reply:
    headers: dict[str, str] = {}
    if failure.problem.status in (429, 503):
        asked = failure.retry_after_seconds or 0.0
        headers["retry-after"] = str(max(1, int(-(-asked // 1))) + secrets.randbelow(3))
    return Reply(failure.problem.status, headers, _encode(ErrorReply(failure.text, failure.code)) + b"\n")
