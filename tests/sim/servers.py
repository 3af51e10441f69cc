"""Servers: the real handlers over the real service, as processes that start, stop and crash.

Owns what the framework does in a real server: from a request's bytes to the handler by the table of routes,
and from what the handler answers or raises to a reply. Tells the audit what has arrived and what is answered.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import msgspec
import trio

from berth.core.names import Key
from berth.roles.apiserver.ask import Ask
from berth.roles.apiserver.auth import ANYBODY, Identity
from berth.roles.apiserver.handlers import Handlers
from berth.roles.apiserver.observe import Entry
from berth.runtime.http import Reply
from berth.runtime.log import Logger
from berth.service.leases import open_leases
from berth.service.sweeper import Sweeping
from berth.store.api import StoreFault
from berth.wire import routes
from berth.wire.checks import BodyDecoder, TtlBounds
from berth.wire.problems import Failure
from berth.wire.shapes import AcquireReply, ErrorReply, SessionObject
from tests.sim.hosts import Host
from tests.sim.ledger import Ledger
from tests.sim.network import Flight, Request
from tests.sim.stores import AuditedStore

BOUNDS = TtlBounds(1, 3600)

_encode = msgspec.json.Encoder().encode
_ROUTES = [
    (operation, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path)))
    for operation in routes.OPERATIONS
]


@cache
def _decoder(operation: routes.Operation) -> BodyDecoder:
    assert operation.body is not None
    return BodyDecoder(operation.body)


class SimLogger:
    """A log that nobody reads, in which nothing may be an error."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def debug(self, msg: str, /, **fields: Any) -> None:
        pass

    info = warning = debug

    def error(self, msg: str, /, **fields: Any) -> None:
        self._ledger.fail(f"logged as an error: {msg} {fields}")


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
                    store, clock=self.host.clock, rng=self._rng, logger=self._logger, sweeping=self._sweeping
                ) as service,
                trio.open_nursery() as nursery,
            ):
                self._audit = store.audit
                self._handlers = Handlers(service, bounds=BOUNDS, auth_mode="none", audit=self._logger)
                self._inside = nursery
                await trio.sleep_forever()
        finally:
            self._down.set()

    async def _serve(self, flight: Flight) -> None:
        self._ledger.requests += 1
        since = trio.current_time()
        with flight.scope:
            reply = await self._respond(flight.request, since)
            self._note(flight, reply)
            flight.answer(reply)
        if flight.scope.cancelled_caught:
            flight.break_off()
        self._flights.discard(flight)

    async def _respond(self, request: Request, since: float) -> Reply:
        try:
            operation, ask = self._ask(request)
            self._arrived(operation, ask, request)
            assert self._handlers is not None
            answer = await self._handlers.by_operation[operation.id](ask)
        except Failure as failure:
            return _failed(failure)
        except StoreFault as fault:
            code = "store_unavailable" if fault.outcome_known else "outcome_unknown"
            return _failed(Failure(code, retry_after_seconds=fault.retry_after_seconds))
        except Exception as defect:  # noqa: BLE001 - as in the real server, but here it fails the run
            self._ledger.fail(f"a defect: {defect!r} of {request.what}")
            return _failed(Failure("internal"))
        self._answered(operation, ask, request, answer, since)
        if answer is None:
            return Reply(operation.status, {}, b"")
        return Reply(operation.status, {"content-type": "application/json"}, _encode(answer) + b"\n")

    def _ask(self, request: Request) -> tuple[routes.Operation, Ask]:
        path, _, query = request.target.partition("?")
        for operation, pattern in _ROUTES:
            match = pattern.fullmatch(path)
            if match and operation.method == request.method:
                break
        else:
            raise Failure("not_found", "no such path")

        async def read_body() -> object:
            await trio.lowlevel.checkpoint()
            return _decoder(operation)(request.body)

        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        identity = self._identities.get(key, ANYBODY)
        parts = {name: unquote(part) for name, part in match.groupdict().items()}
        return operation, Ask(operation, identity, Entry("sim"), parts, dict(parse_qsl(query)), read_body)

    def _arrived(self, operation: routes.Operation, ask: Ask, request: Request) -> None:
        if operation is routes.RELEASE:
            body = cast("Any", _decoder(operation)(request.body))
            self._audit.asked("release", _key(ask), body.holder, body.fencing_token)
        elif operation is routes.FORCE_RELEASE:
            body = cast("Any", _decoder(operation)(request.body))
            self._audit.asked("force", _key(ask), body.fencing_token)
        elif operation is routes.END_SESSION:
            self._audit.asked("end", ask.parts["id"])

    def _answered(
        self, operation: routes.Operation, ask: Ask, request: Request, answer: object, since: float
    ) -> None:
        if isinstance(answer, AcquireReply) and answer.acquired:
            self._audit.granted(_key(ask), answer.holder, answer.fencing_token, since)
            if operation is routes.RENEW:
                asked = cast("Any", _decoder(operation)(request.body)).fencing_token
                if asked != answer.fencing_token:
                    self._ledger.fail(f"token: {answer.fencing_token} is renewed where {asked} was meant")
        if isinstance(answer, SessionObject) and answer.alive and request.method == "POST":
            self._audit.alive(answer.id, since)

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
