"""Two ways to the test API server: over TLS as any client comes, or directly, where a clock may be mocked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec
import trio

from berth.runtime.asgi import AsgiApp, CutOff, Receive, Scope, Send
from berth.runtime.http import NotSent, OutcomeUnknown, Reply
from tests.kube.server.rest import Answer, Cut, KubeServer
from tests.kube.server.watching import WatchStream

DIRECT_URL = "https://kube.test"


def as_app(server: KubeServer) -> AsgiApp:
    """For `berth.runtime.serve`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        try:
            answer = await server.handle(scope["method"], target, headers, body)
        except Cut:
            raise CutOff from None
        await _send(answer, send)

    return app


async def _send(answer: Answer, send: Send) -> None:
    body = msgspec.json.encode(answer.body)
    fields = {"content-type": "application/json", **answer.headers}
    if answer.stream is None:
        fields["content-length"] = str(len(body))
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.stream is not None:
        try:
            # Our server sends the head with the first bytes, and a watch may have nothing to tell yet; JSON
            # may begin with white space.
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            async for piece in answer.stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await answer.stream.aclose()
        body = b""
    await send({"type": "http.response.body", "body": body})


def write_kubeconfig(path: Path, *, url: str, token: str, ca_file: Path, namespace: str = "default") -> Path:
    """For whoever comes to a served one by a bearer token."""
    path.write_text(
        f"""\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url}", certificate-authority: {ca_file}}}}}]
users: [{{name: robot, user: {{token: {token}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: robot, namespace: {namespace}}}}}]
"""
    )
    return path


class Network:
    """A `Transport` straight into a server. While it is `down` nothing gets there.

    The cluster's own controllers come by one that is not `scripted`.
    """

    def __init__(self, server: KubeServer, *, scripted: bool = True) -> None:
        self._server = server
        self._scripted = scripted
        self.down = False
        self.latency_seconds = 0.0

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_seconds: float,
        max_body_bytes: int = 0,
    ) -> Reply:
        answer = await self._answer(method, url, headers, body, timeout_seconds)
        return Reply(answer.status, answer.headers, msgspec.json.encode(answer.body))

    async def pieces(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
        idle_seconds: float,
    ) -> "Flow | Reply":
        answer = await self._answer(method, url, headers, None, timeout_seconds)
        if answer.stream is None:
            return Reply(answer.status, answer.headers, msgspec.json.encode(answer.body))
        return Flow(answer.stream, idle_seconds)

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None, seconds: float
    ) -> Answer:
        if self.down:
            await trio.lowlevel.checkpoint()
            raise NotSent("no route")
        with trio.move_on_after(seconds):
            await trio.sleep(self.latency_seconds)
            try:
                target = url.removeprefix(DIRECT_URL)
                return await self._server.handle(
                    method, target, headers or {}, body or b"", scripted=self._scripted
                )
            except Cut:
                raise OutcomeUnknown("cut") from None
        raise OutcomeUnknown("no answer in time")


class Flow:
    """A stream of the server's, piece by piece."""

    def __init__(self, stream: WatchStream, idle_seconds: float) -> None:
        self._stream = stream
        self._idle_seconds = idle_seconds

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(self._idle_seconds):
            try:
                return await anext(self._stream)
            except CutOff:
                raise OutcomeUnknown("cut") from None
        raise OutcomeUnknown("silent")

    async def aclose(self) -> None:
        await self._stream.aclose()


class Known:
    """Credentials that never change."""

    server = DIRECT_URL

    async def authorization(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return None

    async def refused(self, authorization: str | None) -> bool:
        await trio.lowlevel.checkpoint()
        return False
