"""How a kube-apiserver says no: the Status object."""

from typing import Any

from tests.kube.server.kinds import Kind

Object = dict[str, Any]


class Refusal(Exception):
    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": details} if details else {}),
            "code": code,
        }


def _about(kind: Kind, name: str) -> Object:
    return {"name": name, "group": kind.resource.group, "kind": kind.resource.plural}


def not_found(kind: Kind, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{kind.qualified} "{name}" not found', _about(kind, name))


def already_exists(kind: Kind, name: str) -> Refusal:
    return Refusal(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _about(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> Refusal:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return Refusal(409, "Conflict", message, _about(kind, name))


def invalid(kind: Kind, name: str, why: str) -> Refusal:
    return Refusal(422, "Invalid", f'{kind.qualified} "{name}" is invalid: {why}', _about(kind, name))


def bad_request(why: str) -> Refusal:
    return Refusal(400, "BadRequest", why)


def expired(why: str = "The provided continue parameter is too old") -> Refusal:
    return Refusal(410, "Expired", why)
