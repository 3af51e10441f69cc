"""The cache: it has what the server has, whatever goes wrong on the way."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from berth.kube.access import access_by_kubeconfig
from berth.kube.api import KubeClient, Selector, open_client
from berth.kube.faults import Unavailable
from berth.kube.informer import Changed, Informer
from berth.kube.objects import LEASES, Name, Object, version_of
from tests.kube.conftest import Cluster, in_namespace, until
from tests.kube.server.faults import Fault
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.server.watching import line
from tests.kube.test_api import At
from tests.kube.test_behaviour import lease
from tests.runtime.conftest import Journal
from tests.support.kube_apiserver import KubeApiserver

A = Name("default", "a")
Clock = trio.testing.MockClock


class Told(list[Changed]):
    """What a listener was told."""

    def words(self) -> list[str]:
        def word(change: Changed) -> str:
            if change.old is None:
                return f"+{change.name.name}"
            return f"-{change.name.name}" if change.new is None else f"~{change.name.name}"

        words = [word(change) for change in self]
        self.clear()
        return words


def informer(network: Network, journal: Journal, **terms: Any) -> tuple[Informer, Told]:
    made = Informer(KubeClient(Known(), network), LEASES, rng=Random(1), logger=journal.logger, **terms)
    told = Told()
    made.listen(told.append)
    return made, told


@asynccontextmanager
async def running(informer: Informer) -> AsyncGenerator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(informer.run)
        await informer.synced.wait()
        await until(lambda: informer.watching)
        yield
        nursery.cancel_scope.cancel()


def has(informer: Informer, kube: KubeServer) -> bool:
    """The same objects in the same versions."""
    stored = {
        Name(address.namespace, address.name): version_of(obj)
        for address, obj in kube.storage.of("leases", "")
    }
    return {name: version_of(obj) for name, obj in informer.items()} == stored


async def test_what_is_there_and_what_changes(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    kube.create(LEASES, lease("a"))
    cache, told = informer(network, journal)
    assert not cache.synced.is_set()
    async with running(cache):
        assert told.words() == ["+a"]
        kube.create(LEASES, lease("b"))
        kube.patch(LEASES, "a", {"spec": {"holderIdentity": "y"}})
        kube.delete(LEASES, "b")
        await until(lambda: len(told) == 3)
        assert told.words() == ["+b", "~a", "-b"]
        assert cache[A]["spec"]["holderIdentity"] == "y"
        assert list(cache) == [A]
    assert kube.asked_for("list", "leases") == 1


async def test_selected_objects_come_and_go(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    kube.create(LEASES, lease("a"))
    cache, told = informer(network, journal, namespace="default", selector=Selector(labels="mine=yes"))
    async with running(cache):
        kube.patch(LEASES, "a", {"metadata": {"labels": {"mine": "yes"}}})
        await until(lambda: len(told) == 1)
        kube.patch(LEASES, "a", {"metadata": {"labels": {"mine": "no"}}})
        await until(lambda: len(told) == 2)
    assert told.words() == ["+a", "-a"]


async def test_deletions_missed_are_told_after_the_next_list(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    kube.create(LEASES, lease("a"))
    kube.create(LEASES, lease("b"))
    kube.create(LEASES, lease("same"))
    cache, told = informer(network, journal)
    async with running(cache):
        told.clear()
        for watch in tuple(kube.watches.open):
            watch.freeze()
        kube.delete(LEASES, "a")
        first = kube.find(LEASES, "b")
        kube.delete(LEASES, "b")
        second = kube.create(LEASES, lease("b"))
        kube.create(LEASES, lease("c"))
        kube.compact()
        for watch in tuple(kube.watches.open):
            watch.end()
        await until(lambda: len(told) == 3)
        [again] = [change for change in told if change.name.name == "b"]
        assert (again.old, again.new) == (first, second)
        assert sorted(told.words()) == ["+c", "-a", "~b"]
        assert has(cache, kube)
    assert kube.asked_for("list", "leases") == 2


async def test_a_dropped_watch_goes_on_without_a_list(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    cache, told = informer(network, journal)
    async with running(cache):
        for number in range(5):
            [watch] = kube.watches.open
            watch.say(b'{"type":"ADDED","object":{"meta')
            watch.cut()
            kube.create(LEASES, lease(f"a-{number}"))
            await until(lambda: has(cache, kube) and cache.watching)
        assert told.words() == [f"+a-{number}" for number in range(5)]
    assert kube.asked_for("list", "leases") == 1


async def test_a_silent_watch_is_begun_anew(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    cache, _ = informer(network, journal)
    async with running(cache):
        [watch] = kube.watches.open
        watch.freeze()
        kube.create(LEASES, lease("a"))
        await until(lambda: has(cache, kube))
        assert trio.current_time() < 120
    assert kube.asked_for("list", "leases") == 1


async def test_old_news_change_nothing(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    old = kube.create(LEASES, lease("a"))
    kube.patch(LEASES, "a", {"spec": {"holderIdentity": "y"}})
    cache, told = informer(network, journal)
    async with running(cache):
        told.clear()
        [watch] = kube.watches.open
        watch.say(line("MODIFIED", old) + line("DELETED", old))
        kube.create(LEASES, lease("b"))
        await until(lambda: bool(told))
        assert told.words() == ["+b"]
        assert has(cache, kube)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, verb="list", times=3),
        Fault(status=503, retry_after_seconds=9, verb="watch", times=3),
        Fault(status=429, reason="TooManyRequests", retry_after_seconds=2, times=12),
        Fault("hang", times=2),
        Fault("cut", times=4),
        Fault(status=410, reason="Expired", verb="watch", times=3),
        Fault(status=403, reason="Forbidden", times=2),
    ],
    ids=lambda fault: f"{fault.happening} {fault.status} {fault.verb}",
)
async def test_faults_are_outlived(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock, fault: Fault
) -> None:
    kube.create(LEASES, lease("a"))
    kube.fail(fault)
    cache, _ = informer(network, journal)
    async with running(cache):
        assert has(cache, kube)
        kube.create(LEASES, lease("b"))
        await until(lambda: has(cache, kube))
        assert len(kube.calls) < 40
    assert journal.messages().count("cannot list or watch, trying again") <= 2


async def test_an_outage_is_told_once_and_its_end(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    cache, _ = informer(network, journal)
    async with running(cache):
        network.down = True
        for watch in tuple(kube.watches.open):
            watch.cut()
        await until(lambda: not cache.watching)
        await trio.sleep(600)
        calls = len(kube.calls)
        kube.create(LEASES, lease("a"))
        network.down = False
        await until(lambda: has(cache, kube))
        assert len(kube.calls) - calls < 3
    wanted = ["cannot list or watch, trying again", "listing and watching again"]
    assert [text for text in journal.messages() if text in wanted] == wanted


async def test_own_writes_are_in_the_cache_before_the_watch_tells(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    made = kube.create(LEASES, lease("a"))
    cache, told = informer(network, journal)
    async with running(cache):
        told.clear()
        stored = kube.patch(LEASES, "a", {"spec": {"holderIdentity": "y"}})
        cache.observe(stored)
        assert cache[A] == stored
        assert told.words() == ["~a"]
        await trio.sleep(1)
        assert told.words() == [], "the watch tells nothing new"
        cache.observe(made)
        assert cache[A] == stored, "an older answer changes nothing"
        kube.delete(LEASES, "a")
        await until(lambda: not cache)
        cache.observe(stored)
        assert not cache, "nor does one to a write before the deletion"
        assert told.words() == ["-a"]


async def test_a_deletion_of_our_own_is_of_that_very_object(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    first = kube.create(LEASES, lease("a"))
    cache, told = informer(network, journal)
    async with running(cache):
        kube.delete(LEASES, "a")
        cache.observe_gone(first)
        assert not cache
        second = kube.create(LEASES, lease("a"))
        cache.observe(second)
        await trio.sleep(1)
        assert cache[A] == second, "the watch's word of the first one's end is older"
        cache.observe_gone(first)
        assert cache[A] == second
        assert told.words() == ["+a", "-a", "+a"]


def put_back(kube: KubeServer, backup: tuple[dict[Any, Object], int]) -> None:
    """As its etcd from a backup; the API server is begun anew as well."""
    objects, kube.storage.version = backup
    kube.storage.objects = dict(objects)
    kube.storage.history.clear()
    for watch in tuple(kube.watches.open):
        watch.end()


@pytest.mark.parametrize("how", ["silent", "too old"])
async def test_a_cluster_that_was_restored_is_believed_in_the_end(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock, how: str
) -> None:
    kube.create(LEASES, lease("a"))
    backup = dict(kube.storage.objects), kube.storage.version
    gone_back: list[float] = []
    cache, told = informer(network, journal, on_gone_back=lambda: gone_back.append(trio.current_time()))
    async with running(cache):
        for number in range(5):
            kube.create(LEASES, lease(f"new-{number}"))
        kube.patch(LEASES, "a", {"spec": {"holderIdentity": "y"}})
        await until(lambda: has(cache, kube))
        told.clear()
        if how == "too old":
            kube.fail(Fault(verb="watch", status=410, reason="Expired"))
        put_back(kube, backup)
        await until(lambda: has(cache, kube) and cache.watching)
        assert sorted(told.words()) == [*(f"-new-{number}" for number in range(5)), "~a"]
        assert len(gone_back) == 1
        kube.create(LEASES, lease("b"))
        await until(lambda: has(cache, kube))
    assert "the cluster has gone back to an older state, and so do we" in journal.messages()


async def test_a_read_that_knows_less_than_was_known_is_what_is_believed(
    kube: KubeServer, network: Network, journal: Journal, autojump_clock: Clock
) -> None:
    """Also where the cluster has gone on since, so that a watch goes on as if nothing had been."""
    old = kube.create(LEASES, lease("a"))
    backup = dict(kube.storage.objects), kube.storage.version
    gone_back: list[float] = []
    cache, _ = informer(network, journal, on_gone_back=lambda: gone_back.append(trio.current_time()))
    async with running(cache):
        kube.patch(LEASES, "a", {"spec": {"holderIdentity": "y"}})
        await until(lambda: has(cache, kube))
        put_back(kube, backup)
        for number in range(5):
            kube.create(LEASES, lease(f"new-{number}"))
        await until(lambda: Name("default", "new-4") in cache)
        assert not has(cache, kube)
        assert not gone_back
        begun = trio.current_time()
        cache.observe(old, after=version_of(cache[A]))
        await until(lambda: has(cache, kube))
        assert len(gone_back) == 1
        assert trio.current_time() - begun < 5


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "cut", "end", "freeze", "compact", "fault", "pause"]),
        st.integers(min_value=0, max_value=3),
    ),
    max_size=30,
)


@given(STEPS, st.integers(min_value=0, max_value=99))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_the_cache_gets_there(steps: list[tuple[str, int]], seed: int) -> None:
    """And what listeners are told, applied in order, is the cache."""

    async def run() -> None:
        kube, journal = KubeServer(), Journal()
        cache = Informer(KubeClient(Known(), Network(kube)), LEASES, rng=Random(seed), logger=journal.logger)
        applied: dict[Name, Object] = {}

        def apply(change: Changed) -> None:
            assert change.old is applied.get(change.name)
            if change.new is None:
                del applied[change.name]
            else:
                applied[change.name] = change.new

        cache.listen(apply)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.run)
            for step, number in steps:
                await happen(kube, step, number)
            await until(lambda: has(cache, kube) and cache.watching, within_seconds=2000)
            nursery.cancel_scope.cancel()
        assert applied == dict(cache)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


async def happen(kube: KubeServer, step: str, number: int) -> None:
    name = f"a-{number}"
    there = kube.find(LEASES, name) is not None
    if step == "put" and there:
        kube.patch(LEASES, name, {"spec": {"leaseTransitions": kube.storage.version}})
    elif step == "put":
        kube.create(LEASES, lease(name))
    elif step == "delete" and there:
        kube.delete(LEASES, name)
    elif step == "compact":
        kube.compact()
    elif step == "fault":
        kube.fail(Fault(("status", "hang", "cut", "cut after")[number], times=2))
    elif step == "pause":
        await trio.sleep((0, 0.3, 5, 100)[number])
    for watch in tuple(kube.watches.open):
        if step in {"cut", "end", "freeze"}:
            getattr(watch, step)()


async def test_a_real_server_that_stands_still_and_is_restarted(
    real: KubeApiserver, journal: Journal, tmp_path: Path
) -> None:
    path = await trio.to_thread.run_sync(real.kubeconfig, tmp_path / "kubeconfig")
    access = await access_by_kubeconfig(str(path), logger=journal.logger)
    async with open_client(access) as client:
        cache = Informer(client, LEASES, namespace="kube-public", rng=Random(1), logger=journal.logger)
        async with running(cache):
            with real.frozen():
                with pytest.raises(Unavailable) as caught:
                    await client.get(LEASES, "a", "kube-public", timeout_seconds=0.5)
                assert not caught.value.outcome_known
            made = await client.create(LEASES, in_namespace("kube-public", lease("a")))
            await until(lambda: len(cache) == 1)
            await trio.to_thread.run_sync(real.restart)
            await until(lambda: cache.watching)
            await client.delete(LEASES, "a", "kube-public", uid=made["metadata"]["uid"])
            await until(lambda: not cache)


async def test_on_either_server(cluster: Cluster, journal: Journal) -> None:
    client = KubeClient(At(cluster), cluster.client)
    cache = Informer(client, LEASES, namespace=cluster.namespace, rng=Random(1), logger=journal.logger)
    told = Told()
    cache.listen(told.append)
    await client.create(LEASES, in_namespace(cluster.namespace, lease("a")))
    async with running(cache):
        made = await client.create(LEASES, in_namespace(cluster.namespace, lease("b")))
        cache.observe(made)
        await client.merge_patch(LEASES, "a", cluster.namespace, patch={"spec": {"holderIdentity": "y"}})
        await client.delete(LEASES, "b", cluster.namespace)
        await until(lambda: len(told) == 4, within_seconds=10)
    assert sorted(told.words()) == ["+a", "+b", "-b", "~a"]
