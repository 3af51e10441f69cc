"""One request to a kube-apiserver: with credentials, at our own pace, within its deadline.

Owns what happens around a request, whatever it asks for: waiting for a place in the client's own limit,
fresh credentials after a 401, another try after a 429 while there is time. Nothing else is sent twice.
Promises that no answer is taken for a success that is none, and that no text holds a credential.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, Self, TypeVar

import msgspec
import trio
from msgspec import Struct

from berth.kube.access import AccessInvalid
from berth.kube.faults import TooManyRequests, Unavailable, fault_of, retry_after_seconds
from berth.kube.objects import Object
from berth.kube.pace import Pace
from berth.runtime.http import HttpFault, NotSent, Reply

OBJECT_MAX_BYTES = 8 * 1024 * 1024
PUT_OFF_MAX = 5
"""How often one request is sent again after a 429, should there be time."""

AnswerT = TypeVar("AnswerT")
Exchange = Callable[[Mapping[str, str], float], Awaitable[AnswerT]]


class Stream(Protocol):
    """A reply that goes on; `Pieces` is one."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class Transport(Protocol):
    """A way to the server; `HttpClient` is one."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_seconds: float,
        max_body_bytes: int = OBJECT_MAX_BYTES,
    ) -> Reply: ...

    async def pieces(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
        idle_seconds: float,
    ) -> Stream | Reply: ...


class Credentials(Protocol):
    """Whom to ask, and as whom; `Access` is one."""

    @property
    def server(self) -> str: ...

    async def authorization(self) -> str | None: ...

    async def refused(self, authorization: str | None) -> bool: ...


class Request(Struct, frozen=True):
    """What to ask for; `asked` says it to people."""

    method: str
    target: str
    asked: str
    timeout_seconds: float
    body: bytes | None = None
    content_type: str = "application/json"
    max_body_bytes: int = OBJECT_MAX_BYTES


class Asker:
    """Asks one server. `pace` None sets no limit of our own."""

    def __init__(self, access: Credentials, transport: Transport, pace: Pace | None) -> None:
        self._access = access
        self._transport = transport
        self._pace = pace

    async def for_object(self, request: Request) -> Object:
        """The JSON object that answers. Raises KubeFault."""

        async def exchange(headers: Mapping[str, str], left_seconds: float) -> Reply:
            return await self._transport.request(
                request.method,
                self._access.server + request.target,
                headers=headers,
                body=request.body,
                timeout_seconds=left_seconds,
                max_body_bytes=request.max_body_bytes,
            )

        reply = await self._answer(request, exchange)
        if not 200 <= reply.status < 300:
            raise fault_of(reply, request.asked)
        try:
            return msgspec.json.decode(reply.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            told = f"{request.asked}: {self._access.server} does not answer as a kube-apiserver does"
            raise Unavailable(told, outcome_known=False, status=reply.status) from fault

    async def for_stream(self, request: Request, *, idle_seconds: float) -> Stream:
        """What comes, as it comes; the caller closes it. Raises KubeFault."""

        async def exchange(headers: Mapping[str, str], left_seconds: float) -> Stream | Reply:
            return await self._transport.pieces(
                request.method,
                self._access.server + request.target,
                headers=headers,
                timeout_seconds=left_seconds,
                idle_seconds=idle_seconds,
            )

        answer = await self._answer(request, exchange)
        if isinstance(answer, Reply):
            raise fault_of(answer, request.asked)
        return answer

    async def _answer(self, request: Request, exchange: "Exchange[AnswerT]") -> AnswerT:
        """The answer that counts: after a 429 the next, and after a 401 the one to newer credentials."""
        deadline = trio.current_time() + request.timeout_seconds
        put_off, refused = 0, False
        while True:
            await self._paced(request, deadline)
            authorization = await self._within(self._access.authorization, request, deadline)
            answer = await self._once(request, exchange, authorization, deadline)
            status = answer.status if isinstance(answer, Reply) else 200
            if status == 401 and not refused:
                refused = True
                if not await self._within(lambda: self._access.refused(authorization), request, deadline):  # noqa: B023 - called at once
                    return answer
            elif status == 429 and isinstance(answer, Reply) and put_off < PUT_OFF_MAX:
                put_off += 1
                wait_seconds = retry_after_seconds(answer)
                if trio.current_time() + wait_seconds >= deadline:
                    return answer
                await trio.sleep(wait_seconds)
            else:
                return answer

    async def _paced(self, request: Request, deadline: float) -> None:
        wait_seconds = self._pace.reserve() if self._pace else 0.0
        if not wait_seconds:
            return
        if trio.current_time() + wait_seconds >= deadline:
            assert self._pace is not None
            self._pace.give_back()
            told = f"{request.asked}: our own limit on requests is used up; raise it, or ask for less"
            raise TooManyRequests(told, retry_after_seconds=wait_seconds)
        await trio.sleep(wait_seconds)

    async def _within(
        self, ask: Callable[[], Awaitable[AnswerT]], request: Request, deadline: float
    ) -> AnswerT:
        with trio.move_on_at(deadline):
            try:
                return await ask()
            except AccessInvalid as fault:
                raise Unavailable(f"{request.asked}: {fault}", outcome_known=True) from fault
        raise Unavailable(f"{request.asked}: no credentials in time", outcome_known=True)

    async def _once(
        self, request: Request, exchange: "Exchange[AnswerT]", authorization: str | None, deadline: float
    ) -> AnswerT:
        headers = {"accept": "application/json"}
        if request.body is not None:
            headers["content-type"] = request.content_type
        if authorization is not None:
            headers["authorization"] = authorization
        try:
            return await exchange(headers, max(0.0, deadline - trio.current_time()))
        except HttpFault as fault:
            known = isinstance(fault, NotSent)
            raise Unavailable(f"{request.asked}: {fault}", outcome_known=known) from fault
