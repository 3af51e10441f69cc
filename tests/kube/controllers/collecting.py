"""Garbage: what nothing that is there owns is deleted, and who is deleted in the foreground goes last.

Owners of kinds that the cache does not have are taken to be there.
"""

from berth.kube.objects import Object, being_deleted, uid_of
from tests.kube.controllers.cache import KINDS, Cache
from tests.kube.server.writing import FOREGROUND

_KNOWN = {kind.kind for kind in KINDS}


async def garbage(cache: Cache) -> None:
    everything = {kind: cache.all(kind) for kind in KINDS}
    there = {uid_of(obj): obj for objects in everything.values() for obj in objects}
    owning: set[str] = set()
    for kind, objects in everything.items():
        for obj in objects:
            owners = [owner for owner in _owners(obj) if owner["kind"] in _KNOWN]
            owning.update(owner["uid"] for owner in owners)
            left = [there[owner["uid"]] for owner in owners if owner["uid"] in there]
            # One that waits in the foreground has its own deleted before itself.
            if owners and all(_waits(owner) for owner in left) and not being_deleted(obj):
                await cache.delete(kind, obj)
    for kind, objects in everything.items():
        for obj in objects:
            if _waits(obj) and uid_of(obj) not in owning:
                kept = [name for name in obj["metadata"]["finalizers"] if name != FOREGROUND]
                await cache.patch(kind, obj, {"metadata": {"finalizers": kept or None}})


def _owners(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def _waits(obj: Object) -> bool:
    return being_deleted(obj) and FOREGROUND in (obj["metadata"].get("finalizers") or ())
