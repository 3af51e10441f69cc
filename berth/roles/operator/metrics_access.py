"""Metrics for whom the cluster allows to get them: over HTTPS, by a bearer token.

Owns the question to the cluster: who is it (TokenReview), and may they get this path (SubjectAccessReview).
Promises that nothing is shown before both are answered, and that few questions are asked at a time. The
certificate is made at the start and known to nobody: it keeps the token from who only listens.
"""

import trio

from berth.kube.api import KubeClient
from berth.kube.faults import KubeFault
from berth.runtime.asgi import AsgiApp, Receive, Scope, Send
from berth.runtime.log import Logger

AT_ONCE = 4
ASK_SECONDS = 5.0
OPEN = "/healthz"


def guarded(app: AsgiApp, client: KubeClient, logger: Logger) -> AsgiApp:
    """The application, for whom the cluster lets `get` the path that is asked for."""
    turns = trio.CapacityLimiter(AT_ONCE)

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        status = 200
        if scope["path"] != OPEN:
            async with turns:
                status = await _judged(scope, client, logger)
        if status == 200:
            await app(scope, receive, send)
        else:
            await _refuse(send, status)

    return guard


async def _judged(scope: Scope, client: KubeClient, logger: Logger) -> int:
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = given.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return 401
    try:
        user = await client.review_token(token.strip(), timeout_seconds=ASK_SECONDS)
        if not user.authenticated:
            return 401
        allowed = await client.review_access(
            user.username, user.groups, path=scope["path"], verb="get", timeout_seconds=ASK_SECONDS
        )
    except KubeFault as fault:
        logger.warning("the cluster does not say who may see the metrics", error=str(fault))
        return 503
    return 200 if allowed else 403


async def _refuse(send: Send, status: int) -> None:
    texts = {
        401: b"a bearer token of the cluster is needed\n",
        403: b"not allowed: the cluster must let you get /metrics\n",
        503: b"the cluster cannot be asked\n",
    }
    body = texts[status]
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
