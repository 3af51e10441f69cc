"""Discovery: what the cluster calls a kind, and what can be done with it.

Owns the reading of one group's APIResourceList. Keeps nothing: definitions come and go.
"""

from msgspec import Struct

from berth.kube.api import KubeClient
from berth.kube.faults import NotFound
from berth.kube.objects import Object, Resource, mapping, text


class Discovered(Struct, frozen=True):
    """A kind that the cluster serves, and whether it has a `scale` subresource."""

    resource: Resource
    scale: bool


async def discover(client: KubeClient, api_version: str, kind: str) -> Discovered | None:
    """None: the cluster does not know the kind. Raises KubeFault."""
    try:
        served = await client.served(api_version)
    except NotFound:
        return None
    return discovered_in(served, api_version, kind)


def discovered_in(served: Object, api_version: str, kind: str) -> Discovered | None:
    """What an APIResourceList says of a kind."""
    listed = [mapping(found) for found in served.get("resources") or ()]
    names = {text(found.get("name")) for found in listed}
    group, _, version = api_version.rpartition("/")
    for found in listed:
        plural = text(found.get("name"))
        if found.get("kind") == kind and plural and "/" not in plural:
            resource = Resource(group, version, plural, kind, namespaced=found.get("namespaced") is True)
            return Discovered(resource, f"{plural}/scale" in names)
    return None
