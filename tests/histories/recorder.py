"""The recorder: asks replicas over HTTPS and writes down what was asked, when, and what came of it.

Owns the history of a run. One attempt is one operation: nothing is tried again under the same name. What
certainly was not carried out (never sent, or refused with a code that says so) is counted and left out.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from berth.runtime.clock import SystemClock
from berth.runtime.http import HttpClient, NotSent, OutcomeUnknown
from tests.histories.operations import Operation, Told

PATIENCE_SECONDS = (2.0, 6.0)
"""Less than a server takes to give its store up, and more."""

SECOND_US = 1_000_000

NOT_DONE = {"store_unavailable", "shutting_down", "quarantine"}
"""Refusals that promise that nothing was changed."""

WITHOUT_EFFECT = {"get", "open"}
"""What changes nothing unless it is answered: nobody can name a session that nobody was told of."""

Answer = Told | Literal["not done", "unknown"]


class Recorder:
    """One history. `strange` is what no server should ever answer."""

    def __init__(self, client: HttpClient) -> None:
        self.history: list[Operation] = []
        self.left_out: Counter[str] = Counter()
        self.strange: list[str] = []
        self._client = client
        self._clock = SystemClock()

    def now_us(self) -> int:
        return self._clock.boot_us()

    async def ask(
        self, url: str, asked: Sequence[Operation], *, patience_seconds: float, wait_seconds: int = 0
    ) -> list[Answer]:
        """What came of one operation, or of several in one batch; instants are entered here."""
        method, path, body = _call(asked, wait_seconds)
        encoded = None if body is None else json.dumps(body).encode()
        invoked_us = self.now_us()
        try:
            reply = await self._client.request(
                method,
                url + path,
                headers={"content-type": "application/json"},
                body=encoded,
                timeout_seconds=patience_seconds + wait_seconds,
                wait_seconds=wait_seconds,
            )
        except NotSent:
            self.left_out["not sent"] += len(asked)
            return ["not done"] * len(asked)
        except OutcomeUnknown:
            answers: list[Answer] = ["unknown"] * len(asked)
        else:
            decoded = json.loads(reply.body) if reply.body else {}
            results = decoded["results"] if "results" in decoded else [decoded] * len(asked)
            answers = [
                self._answer(operation, result.get("status", reply.status), result)
                for operation, result in zip(asked, results, strict=True)
            ]
        self._note(asked, answers, invoked_us)
        return answers

    def _note(self, asked: Sequence[Operation], answers: Sequence[Answer], invoked_us: int) -> None:
        returned_us = self.now_us()
        for operation, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Told):
                session = operation.session or answer.session
                self.history.append(
                    replace(
                        operation,
                        invoked_us=invoked_us,
                        returned_us=returned_us,
                        told=answer,
                        session=session,
                    )
                )
            elif answer == "unknown" and operation.kind not in WITHOUT_EFFECT:
                self.history.append(replace(operation, invoked_us=invoked_us))

    def _answer(self, asked: Operation, status: int, body: dict[str, Any]) -> Answer:
        code = body.get("code", "")
        if code in NOT_DONE:
            self.left_out[code] += 1
            return "not done"
        told = told_of(asked, status, body)
        if told is not None:
            return told
        if code != "outcome_unknown":
            self.strange.append(f"{status} {body}: {asked}")
        return "unknown"


def told_of(asked: Operation, status: int, body: dict[str, Any]) -> Told | None:
    """The reply in the history's words; None where it has none for it."""
    token, holder = body.get("fencingToken", 0), body.get("holder", "")
    match asked.kind, status, body.get("code", ""):
        case "acquire", 200, _:
            if body["acquired"]:
                return Told("granted", token, holder, body["cleanHandover"])
            return Told("held" if body["reason"] == "held" else "closed", token, holder)
        case "renew", 200, _:
            return Told("renewed" if body["acquired"] else "lost", token, holder)
        case "release", 200 | 204, "":
            return Told("released")
        case "release", 409, "not_holder":
            return Told("not_holder")
        case "force", 200, _:
            return Told("forced", body["released"]["fencingToken"], body["released"]["holder"])
        case "force", 409, "stale_token":
            return Told("stale_token")
        case "get", 200, _:
            return Told(body["state"], token, holder)
        case (("get" | "force"), 404, "not_found"):
            return Told("never")
        case "open", 201, _:
            return Told("alive", session=body["id"])
        case "keep", 200, _:
            return Told("alive" if body["alive"] else "over")
        case "end", 204, _:
            return Told("ended")
        case _, 409, "session_ended" | "held_by_session" | "held_by_ttl" as word:
            return Told(word)
        case _:
            return None


def _call(asked: Sequence[Operation], wait_seconds: int) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body."""
    if len(asked) > 1:
        operations = [{"op": each.kind, **_key(each), **_body(each)} for each in asked]
        return "POST", "/v1alpha1/leases:batch", {"operations": operations}
    (one,) = asked
    if not one.key:
        return _session_call(one)
    namespace, name = _key(one).values()
    path = f"/v1alpha1/namespaces/{namespace}/leases/{name}"
    if one.kind == "get":
        return "GET", path, None
    if one.kind == "force":
        return "POST", f"{path}/force-release", {"fencingToken": one.token, "reason": "a test"}
    wait = {"waitSeconds": wait_seconds} if wait_seconds else {}
    return "POST", f"{path}/{one.kind}", {**_body(one), **wait}


def _session_call(asked: Operation) -> tuple[str, str, dict[str, Any] | None]:
    path = f"/v1alpha1/sessions/{asked.session}"
    match asked.kind:
        case "open":
            return "POST", path.rstrip("/"), _body(asked)
        case "keep":
            return "POST", f"{path}/renew", {}
        case _:
            return "DELETE", path, None


def _key(asked: Operation) -> dict[str, str]:
    namespace, name = asked.key.split("/")
    return {"namespace": namespace, "name": name}


def _body(asked: Operation) -> dict[str, Any]:
    body: dict[str, Any] = {"holder": asked.holder}
    if asked.token:
        body["fencingToken"] = asked.token
    if asked.session:
        body["session"] = asked.session
    elif asked.ttl_us:
        body["ttlSeconds"] = asked.ttl_us // SECOND_US
    return body
