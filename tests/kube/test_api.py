"""The client: on a test API server and a real one where all is well, on a faulty one where it is not."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from berth.kube.api import KubeClient, Selector
from berth.kube.faults import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeFault,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from berth.kube.objects import LEASES, version_of
from berth.kube.pace import Pace
from berth.runtime.http import Reply
from tests.kube.conftest import BERTH_LEASES, Cluster, in_namespace
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import CONFIG_MAPS, DEPLOYMENTS
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.test_behaviour import berth_lease, config_map, deployment, lease


class At(Known):
    """A cluster's credentials: its connection has them."""

    def __init__(self, cluster: Cluster) -> None:
        self.server = cluster.url


@pytest.fixture
def client(cluster: Cluster) -> KubeClient:
    return KubeClient(At(cluster), cluster.client)


async def test_an_object_from_its_making_to_its_end(cluster: Cluster, client: KubeClient) -> None:
    place = cluster.namespace
    made = await client.create(LEASES, in_namespace(cluster.namespace, lease()))
    assert await client.get(LEASES, "a", place) == made
    stored = await client.replace(LEASES, {**made, "spec": {"holderIdentity": "y"}})
    assert stored["spec"] == {"holderIdentity": "y"}
    with pytest.raises(Conflict):
        await client.replace(LEASES, made)
    stored = await client.merge_patch(LEASES, "a", place, patch={"spec": {"leaseTransitions": 3}})
    assert stored["spec"] == {"holderIdentity": "y", "leaseTransitions": 3}
    with pytest.raises(AlreadyExists):
        await client.create(LEASES, in_namespace(cluster.namespace, lease()))
    with pytest.raises(Conflict):
        await client.delete(LEASES, "a", place, uid="another")
    with pytest.raises(Conflict):
        await client.delete(LEASES, "a", place, resource_version=version_of(made))
    uid = made["metadata"]["uid"]
    await client.delete(LEASES, "a", place, uid=uid, resource_version=version_of(stored))
    with pytest.raises(NotFound, match=rf'get leases {place}/a: leases.* "a" not found'):
        await client.get(LEASES, "a", place)
    with pytest.raises(Invalid):
        await client.create(LEASES, in_namespace(cluster.namespace, lease(leaseDurationSeconds=0)))


async def test_subresources(cluster: Cluster, client: KubeClient) -> None:
    place = cluster.namespace
    await client.create(DEPLOYMENTS, in_namespace(cluster.namespace, deployment()))
    scale = await client.get(DEPLOYMENTS, "web", place, subresource="scale")
    scale = await client.replace(DEPLOYMENTS, {**scale, "spec": {"replicas": 3}}, subresource="scale")
    assert scale["spec"]["replicas"] == 3
    patch = {"spec": {"replicas": 2}}
    scale = await client.merge_patch(DEPLOYMENTS, "web", place, patch=patch, subresource="scale")
    assert scale["spec"]["replicas"] == 2
    made = await client.create(BERTH_LEASES, in_namespace(cluster.namespace, berth_lease()))
    told = await client.replace(
        BERTH_LEASES, {**made, "status": {"leaseState": "held"}}, subresource="status"
    )
    assert told["status"] == {"leaseState": "held"}


async def test_a_list_is_whole_however_many_pages(cluster: Cluster, client: KubeClient) -> None:
    for number in range(5):
        await client.create(
            CONFIG_MAPS, in_namespace(cluster.namespace, config_map(f"a-{number}", labels={"n": str(number)}))
        )
    page = await client.list_page(CONFIG_MAPS, cluster.namespace, limit=3)
    assert [item["metadata"]["name"] for item in page.items] == ["a-0", "a-1", "a-2"]
    assert {(item["kind"], item["apiVersion"]) for item in page.items} == {("ConfigMap", "v1")}
    more = await client.list_page(CONFIG_MAPS, cluster.namespace, limit=3, continue_token=page.continue_token)
    assert (len(more.items), more.continue_token) == (2, "")
    assert more.resource_version == page.resource_version
    some = await client.list_all(CONFIG_MAPS, cluster.namespace, selector=Selector(labels="n in (1,3)"))
    assert [item["metadata"]["name"] for item in some.items] == ["a-1", "a-3"]
    assert len((await client.list_all(CONFIG_MAPS, cluster.namespace)).items) == 5


async def test_a_watch_is_read_as_it_comes(cluster: Cluster, client: KubeClient) -> None:
    since = (await client.list_page(LEASES, cluster.namespace)).resource_version
    terms: Any = {"resource_version": since, "lasting_seconds": 30, "idle_seconds": 10}
    async with client.watch(LEASES, cluster.namespace, **terms) as stream:
        made = await client.create(LEASES, in_namespace(cluster.namespace, lease()))
        data = b""
        with trio.fail_after(10):
            while b"\n" not in data:
                data += await anext(stream)
    assert json.loads(data) == {"type": "ADDED", "object": made}


async def test_a_token_is_reviewed(cluster: Cluster, client: KubeClient) -> None:
    token = await cluster.token()
    review = await client.review_token(token)
    assert review.authenticated
    assert review.username == f"system:serviceaccount:{cluster.namespace}:robot"
    assert not (await client.review_token("nonsense")).authenticated


# What follows goes wrong, and time is mocked.


@pytest.fixture
def faulty(network: Network) -> KubeClient:
    return KubeClient(Known(), network)


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (400, "BadRequest", Invalid),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Gone),
        (413, "RequestEntityTooLarge", Invalid),
        (415, "UnsupportedMediaType", Invalid),
        (422, "Invalid", Invalid),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (504, "Timeout", Unavailable),
    ],
)
async def test_every_refusal_has_its_class(
    kube: KubeServer, faulty: KubeClient, status: int, reason: str, expected: type[KubeFault]
) -> None:
    kube.fail(Fault(status=status, reason=reason, message="told"))
    with pytest.raises(KubeFault, match="get leases default/a: told") as caught:
        await faulty.get(LEASES, "a", "default")
    assert type(caught.value) is expected
    assert caught.value.status == status
    assert caught.value.outcome_known is (status < 500)


async def test_a_request_put_off_is_sent_again_in_its_time(
    kube: KubeServer, faulty: KubeClient, autojump_clock: trio.testing.MockClock
) -> None:
    kube.fail(Fault(status=429, reason="TooManyRequests", retry_after_seconds=3, times=2))
    started = trio.current_time()
    await faulty.create(LEASES, {**lease(), "metadata": {"name": "a", "namespace": "default"}})
    assert trio.current_time() - started == 6
    assert kube.asked_for("create", "leases") == 3


async def test_a_request_put_off_for_longer_than_it_has_is_the_callers(
    kube: KubeServer, faulty: KubeClient, autojump_clock: trio.testing.MockClock
) -> None:
    kube.fail(Fault(status=429, reason="TooManyRequests", retry_after_seconds=7, times=9))
    with pytest.raises(TooManyRequests) as caught:
        await faulty.get(LEASES, "a", "default", timeout_seconds=10)
    assert caught.value.retry_after_seconds == 7
    assert trio.current_time() == 7
    assert kube.asked_for("get", "leases") == 2


async def test_nothing_else_is_sent_twice(kube: KubeServer, faulty: KubeClient) -> None:
    for fault in (Fault(status=500), Fault("cut"), Fault("cut after"), Fault(status=409, reason="Conflict")):
        kube.calls.clear()
        kube.fail(fault)
        with pytest.raises(KubeFault):
            await faulty.create(
                CONFIG_MAPS, {**config_map(), "metadata": {"generateName": "a", "namespace": "default"}}
            )
        assert len(kube.calls) == 1


async def test_whether_the_outcome_is_known(
    kube: KubeServer, network: Network, faulty: KubeClient, autojump_clock: trio.testing.MockClock
) -> None:
    for fault in (Fault("hang"), Fault("hang after"), Fault("cut after")):
        kube.fail(fault)
        with pytest.raises(Unavailable) as caught:
            await faulty.create(LEASES, lease(fault.happening.replace(" ", "-")), timeout_seconds=5)
        assert not caught.value.outcome_known
    network.down = True
    with pytest.raises(Unavailable) as caught:
        await faulty.get(LEASES, "a", "default")
    assert caught.value.outcome_known


async def test_a_hanging_server_is_waited_for_until_the_deadline(
    kube: KubeServer, faulty: KubeClient, autojump_clock: trio.testing.MockClock
) -> None:
    kube.fail(Fault("hang"))
    with pytest.raises(Unavailable):
        await faulty.get(LEASES, "a", "default", timeout_seconds=4)
    assert trio.current_time() == 4


async def test_a_list_whose_pages_expire_is_asked_for_in_one(kube: KubeServer, faulty: KubeClient) -> None:
    for number in range(700):
        kube.create(CONFIG_MAPS, config_map(f"a-{number:03}"))
    page = await faulty.list_page(CONFIG_MAPS, "default")
    assert page.continue_token
    kube.compact()
    with pytest.raises(Gone):
        await faulty.list_page(CONFIG_MAPS, "default", continue_token=page.continue_token)
    whole = await faulty.list_all(CONFIG_MAPS, "default")
    assert len(whole.items) == 700


class Rotating:
    """Credentials of which the first are out of date."""

    server = Known.server

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)
        self.rejected: list[str | None] = []

    async def authorization(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return f"Bearer {self._tokens[0]}"

    async def refused(self, authorization: str | None) -> bool:
        await trio.lowlevel.checkpoint()
        self.rejected.append(authorization)
        if len(self._tokens) > 1:
            self._tokens.pop(0)
        return authorization != f"Bearer {self._tokens[0]}"


async def test_stale_credentials_are_renewed_and_the_request_is_sent_again(
    kube: KubeServer, network: Network
) -> None:
    kube.guarded, kube.tokens = True, {"new": "me"}
    rotating = Rotating("old", "new")
    made = await KubeClient(rotating, network).create(
        LEASES, {**lease(), "metadata": {"name": "a", "namespace": "default"}}
    )
    assert made["metadata"]["name"] == "a"
    assert rotating.rejected == ["Bearer old"]


async def test_credentials_that_are_refused_do_not_show(kube: KubeServer, network: Network) -> None:
    kube.guarded = True
    for rotating in (Rotating("hunter2"), Rotating("hunter2", "hunter2-again", "never tried")):
        with pytest.raises(Unauthorized) as caught:
            await KubeClient(rotating, network).get(LEASES, "a", "default")
        assert "hunter2" not in repr(caught.value)
        assert len(rotating.rejected) == 1


async def test_what_is_no_kube_apiserver_is_named() -> None:
    class Portal(Network):
        async def request(self, *args: Any, **kwargs: Any) -> Reply:
            await trio.lowlevel.checkpoint()
            return Reply(200, {}, b"<html>log in</html>")

    with pytest.raises(Unavailable, match="does not answer as a kube-apiserver does"):
        await KubeClient(Known(), Portal(KubeServer())).get(LEASES, "a", "default")


async def test_a_burst_is_free_and_then_there_is_a_pace(
    kube: KubeServer, network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    paced = KubeClient(Known(), network, pace=Pace(qps=4, burst=3))
    times: list[float] = []
    for _ in range(6):
        await paced.list_page(LEASES, "default")
        times.append(trio.current_time())
    assert times[:3] == [0, 0, 0]
    assert [round(later - sooner, 6) for sooner, later in pairwise(times[2:])] == [0.25, 0.25, 0.25]


async def test_a_pace_that_cannot_be_kept_in_time_is_told_at_once(
    kube: KubeServer, network: Network, autojump_clock: trio.testing.MockClock
) -> None:
    paced = KubeClient(Known(), network, pace=Pace(qps=0.1, burst=1))
    await paced.list_page(LEASES, "default")
    with pytest.raises(TooManyRequests, match="our own limit"):
        await paced.list_page(LEASES, "default", timeout_seconds=5)
    assert trio.current_time() == 0
    await paced.list_page(LEASES, "default", timeout_seconds=11)
    assert trio.current_time() == 10


@asynccontextmanager
async def watched(client: KubeClient, since: str, idle_seconds: float = 30) -> AsyncGenerator[Any]:
    terms: Any = {"resource_version": since, "lasting_seconds": 300, "idle_seconds": idle_seconds}
    async with client.watch(LEASES, "default", **terms) as stream:
        yield stream


async def test_a_watch_that_is_refused_breaks_or_falls_silent(
    kube: KubeServer, faulty: KubeClient, autojump_clock: trio.testing.MockClock
) -> None:
    since = str(kube.storage.version)
    kube.fail(Fault(verb="watch", status=410, reason="Expired"))
    with pytest.raises(Gone):
        async with watched(faulty, since):
            pass
    with pytest.raises(Unavailable, match="watch leases default: cut"):
        async with watched(faulty, since) as stream:
            [watch] = kube.watches.open
            watch.cut()
            await anext(stream)
    assert not kube.watches.open
    started = trio.current_time()
    with pytest.raises(Unavailable, match="silent"):
        async with watched(faulty, since, idle_seconds=7) as stream:
            await anext(stream)
    assert trio.current_time() - started == 7
    assert not kube.watches.open
