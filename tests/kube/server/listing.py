"""Lists on the test API server: in pages, each as of the version at which the list began."""

import base64
from typing import Any

import msgspec

from tests.kube.server.kinds import Kind
from tests.kube.server.refusing import bad_request, expired
from tests.kube.server.selecting import Test
from tests.kube.server.storage import Storage

Object = dict[str, Any]
SNAPSHOTS_MAX = 100


class Lister:
    """Keeps what unfinished lists still have to tell."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._rests: dict[str, list[Object]] = {}
        self._serial = 0

    def forget(self) -> None:
        """No list that has begun can go on."""
        self._rests.clear()

    def page(
        self, kind: Kind, namespace: str, test: Test, *, limit: int, token: str, counted: bool
    ) -> Object:
        if token:
            version, items = self._rest(token)
        else:
            found = self._storage.of(kind.resource.plural, namespace)
            version, items = self._storage.version, [obj for _, obj in found if test(obj)]
        metadata: Object = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            metadata["continue"] = self._remember(version, items[limit:])
            if counted:
                metadata["remainingItemCount"] = len(items) - limit
            items = items[:limit]
        return {
            "kind": f"{kind.resource.kind}List",
            "apiVersion": kind.resource.api_version,
            "metadata": metadata,
            "items": [_bare(item) for item in items],
        }

    def _remember(self, version: int, rest: list[Object]) -> str:
        self._serial += 1
        token = base64.urlsafe_b64encode(msgspec.json.encode({"rv": version, "start": self._serial})).decode()
        self._rests[token] = rest
        while len(self._rests) > SNAPSHOTS_MAX:
            self._rests.pop(next(iter(self._rests)))
        return token

    def _rest(self, token: str) -> tuple[int, list[Object]]:
        try:
            version = msgspec.json.decode(base64.urlsafe_b64decode(token))["rv"]
        except (ValueError, KeyError) as fault:
            raise bad_request("continue key is not valid") from fault
        if token not in self._rests:
            raise expired()
        return version, self._rests[token]


def _bare(item: Object) -> Object:
    return {key: value for key, value in item.items() if key not in {"kind", "apiVersion"}}
