"""WSGI middleware: requests with a stale fencing token never reach the application."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from berth.client.fencing.gate import Gate, Refusal
from berth.client.fencing.marks import Marks
from berth.client.fencing.stamp import HEADER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_REASONS = {400: "Bad Request", 409: "Conflict"}
_ENVIRON = "HTTP_" + HEADER.upper().replace("-", "_")


class FencedWsgi:
    """`app` behind the fence of one lease. Every request needs the header, whatever its method."""

    def __init__(self, app: "WSGIApplication", *, lease: str, marks: Marks) -> None:
        self._app = app
        self._gate = Gate(lease, marks)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        # Servers join a header that is given twice with a comma, which no stamp contains.
        values = [environ[_ENVIRON]] if _ENVIRON in environ else []
        stamp = self._gate.read(values)
        refusal = stamp if isinstance(stamp, Refusal) else self._gate.pass_(stamp)
        if refusal is None:
            return self._app(environ, start_response)
        start_response(f"{refusal.status} {_REASONS[refusal.status]}", refusal.headers)
        return [refusal.body]
