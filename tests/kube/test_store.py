"""The Kubernetes store: the contract, on the test API server and on a real one, and what is its own."""

from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import HOLDERS_MAX, Record, Tenure
from berth.core.requests import Acquire, Acquired, EndFirst, Lost, NotAcquired, Refused, Renew, Renewed
from berth.kube import reflector
from berth.kube.access import access_by_kubeconfig
from berth.kube.api import KubeClient, open_client
from berth.kube.objects import LEASES, Object
from berth.runtime.clock import ManualClock, SystemClock
from berth.store import kubernetes, kubernetes_reading
from berth.store.api import PartlyRead, PartlyWritten, Store, StoreFault, StoreRefused
from berth.store.kubernetes import KubernetesStore
from berth.store.kubernetes_objects import (
    FLOOR,
    LEASE,
    MANAGED_BY,
    MORE,
    SESSION,
    VERSION,
    lease_object,
    object_name,
    session_name,
    session_object,
)
from berth.store.kubernetes_opening import VERBS, opened_on
from tests.kube.conftest import Cluster, until
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import NAMESPACES
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.test_api import At
from tests.runtime.conftest import Journal
from tests.store.conformance import StoreConformance, must_win, read_one, scanned_keys
from tests.store.samples import KEY, SECOND, SESSIONS, held, many_keys, stored_keys
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver

NAMESPACE = "coordination"
NAME = "default.a"
Clock = trio.testing.MockClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(boot_us=10**12, wall_us=1_790_000_000 * SECOND)


class KubernetesConformance(StoreConformance):
    @pytest.fixture(autouse=True)
    def on_any_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Thousands are written in one call."""
        monkeypatch.setattr(kubernetes, "ROUND_SECONDS", 300)

    async def test_keys_are_told_apart_byte_by_byte(self, store: Store) -> None:
        """Names of objects are lower case ASCII, as all names that the API server takes."""
        keys = [Key("a", "b-c"), Key("a-b", "c"), Key("a", "b.c"), Key("a", "b"), Key("a-b", "b")]
        await must_win(store, *(held(key, holder=str(key)) for key in keys))
        found = (await store.read(keys)).leases
        holders = [observed.record.tenures[0].holder for observed in found.values() if observed.record]
        assert holders == [str(key) for key in keys]


class TestKubernetesStore(KubernetesConformance):
    @pytest.fixture
    async def store(
        self, network: Network, clock: ManualClock, journal: Journal
    ) -> AsyncGenerator[KubernetesStore]:
        async with on(network, clock, journal) as store:
            yield store


class TestKubernetesStoreOnACluster(KubernetesConformance):
    """On a real API server."""

    @pytest.fixture
    def place(self, real: KubeApiserver) -> KubeApiserver:
        return real

    @pytest.fixture
    async def store(
        self, cluster: Cluster, clock: ManualClock, journal: Journal
    ) -> AsyncGenerator[KubernetesStore]:
        client = KubeClient(At(cluster), cluster.client)
        async with opened_on(client, cluster.namespace, clock, journal.logger, Random(1)) as store:
            yield store

    async def test_a_scan_is_paged_and_ordered(self, store: Store) -> None:
        """As on every store, of fewer: each is a call."""
        keys = many_keys(1_500)
        await must_win(store, *stored_keys(keys))
        assert await scanned_keys(store, 499) == sorted(keys)


@pytest.fixture
def kube(kube: KubeServer) -> KubeServer:
    kube.create(NAMESPACES, {"metadata": {"name": NAMESPACE}}, "")
    return kube


def on(network: Network, clock: ManualClock, journal: Journal) -> Any:
    return opened_on(KubeClient(Known(), network), NAMESPACE, clock, journal.logger, Random(1))


@pytest.fixture
async def store(network: Network, clock: ManualClock, journal: Journal) -> AsyncGenerator[KubernetesStore]:
    async with on(network, clock, journal) as store:
        yield store


@pytest.fixture
async def other(network: Network, journal: Journal) -> AsyncGenerator[KubernetesStore]:
    """Another server's, whose clocks are a day behind."""
    clock = ManualClock(boot_us=5, wall_us=(1_790_000_000 - 86_400) * SECOND)
    async with on(network, clock, journal) as store:
        yield store


def stored(kube: KubeServer, name: str = NAME) -> Object:
    (found,) = (obj for _, obj in kube.storage.of("leases", NAMESPACE) if obj["metadata"]["name"] == name)
    return found


async def test_a_lease_is_written_as_the_reference_has_it(store: KubernetesStore, kube: KubeServer) -> None:
    await must_win(store, held(token=1))
    written = stored(kube)
    assert written["metadata"]["labels"] == {MANAGED_BY: LEASE}
    assert written["metadata"]["annotations"] == {
        "berth.skaphos.io/tenant-namespace": "default",
        "berth.skaphos.io/lease-name": "a",
        "berth.skaphos.io/version": "1",
    }
    assert written["spec"] == {
        "holderIdentity": "edge-1",
        "leaseDurationSeconds": 30,
        "leaseTransitions": 1,
        "acquireTime": "1970-01-01T00:00:00.000007Z",
        "renewTime": written["spec"]["renewTime"],
    }


async def test_a_lease_of_the_reference_is_taken_over(store: KubernetesStore, kube: KubeServer) -> None:
    reference: Object = {
        "metadata": {
            "name": NAME,
            "labels": {MANAGED_BY: LEASE},
            "annotations": {
                "berth.skaphos.io/tenant-namespace": "default",
                "berth.skaphos.io/lease-name": "a",
                VERSION: "7",
            },
        },
        "spec": {
            "holderIdentity": "old",
            "leaseDurationSeconds": 15,
            "leaseTransitions": 4,
            "acquireTime": "2026-09-21T10:00:00.000000Z",
            "renewTime": "2026-09-21T10:00:05.000000Z",
        },
    }
    kube.create(LEASES, reference, NAMESPACE)
    observed = await read_one(store)
    assert observed.record is not None
    assert (observed.record.version, observed.record.token) == (7, 4)
    (tenure,) = observed.record.tenures
    assert (tenure.holder, tenure.ttl_us) == ("old", 15 * SECOND)
    assert isinstance(decide(observed, Acquire("new", SECOND)).outcome, NotAcquired)
    renewed = decide(observed, Renew("old", 4, 15 * SECOND))
    assert renewed.write is not None
    await must_win(store, renewed.write)
    assert stored(kube)["metadata"]["annotations"][VERSION] == "8"
    # What an older server writes over it counts, and what we had beside it does not.
    assert MORE not in stored(kube)["metadata"]["annotations"]


async def test_expiry_is_what_a_server_has_seen_itself(
    store: KubernetesStore, other: KubernetesStore, clock: ManualClock
) -> None:
    """Its clocks are a day ahead of the other's, which wrote."""
    await must_win(other, held())
    await until(lambda: store.recall([KEY]).records[KEY] is not None)
    assert (await read_one(store)).idle_us == (0,)
    clock.advance(29)
    observed = await read_one(other)
    renewed = decide(observed, Renew("edge-1", 1, 30 * SECOND))
    assert renewed.write is not None
    await must_win(other, renewed.write)
    await until(lambda: store.recall([KEY]).leases[KEY].idle_us == (0,))
    clock.advance(30)
    assert isinstance(decide(await read_one(store), Acquire("b", SECOND)).outcome, NotAcquired)
    clock.advance(0.000001)
    taken = decide(await read_one(store), Acquire("b", SECOND))
    assert isinstance(taken.outcome, Acquired)
    assert taken.outcome.view.token == 2


async def test_a_renewal_is_one_call(store: KubernetesStore, kube: KubeServer) -> None:
    await must_win(store, held())
    before = kube.asked_for("get", "leases"), kube.asked_for("update", "leases")
    renewed = decide(store.recall([KEY]).leases[KEY], Renew("edge-1", 1, 30 * SECOND))
    assert isinstance(renewed.outcome, Renewed)
    assert renewed.write is not None
    await must_win(store, renewed.write)
    assert (kube.asked_for("get", "leases"), kube.asked_for("update", "leases")) == (before[0], before[1] + 1)


async def test_what_others_do_to_the_metadata_costs_no_lease(
    store: KubernetesStore, kube: KubeServer
) -> None:
    await must_win(store, held())
    kube.patch(LEASES, NAME, {"metadata": {"labels": {"team": "payments"}}}, NAMESPACE)
    renewed = decide(store.recall([KEY]).leases[KEY], Renew("edge-1", 1, 30 * SECOND))
    assert renewed.write is not None
    await must_win(store, renewed.write)
    assert stored(kube)["metadata"]["labels"] == {MANAGED_BY: LEASE, "team": "payments"}


def renewed(store: KubernetesStore, holder: str = "edge-1", token: int = 1) -> Record:
    """What a holder's renewal makes of the lease as the store remembers it."""
    write = decide(store.recall([KEY]).leases[KEY], Renew(holder, token, 30 * SECOND)).write
    assert write is not None
    return write


def deaf(kube: KubeServer) -> None:
    """No watch that is open hears of anything any more."""
    for watch in kube.watches.open:
        watch.freeze()


async def test_another_object_of_the_same_version_is_not_written_over(
    store: KubernetesStore, other: KubernetesStore, kube: KubeServer
) -> None:
    """The lease was deleted and granted anew, of which one server has heard nothing yet."""
    await must_win(store, held(token=1))
    await until(lambda: other.recall([KEY]).records[KEY] is not None)
    deaf(kube)
    kube.delete(LEASES, NAME, NAMESPACE)
    kube.create(LEASES, as_stored(held(token=2, holder="b")), NAMESPACE)
    assert (await read_one(other)).record is not None
    assert await store.write([renewed(store)]) == set()
    assert stored(kube)["spec"]["holderIdentity"] == "b"
    assert stored(kube)["spec"]["leaseTransitions"] == 2
    assert isinstance(decide(await read_one(store), Renew("edge-1", 1, SECOND)).outcome, Lost)
    assert isinstance(decide(await read_one(store), Renew("b", 2, SECOND)).outcome, Renewed)
    await must_win(store, renewed(store, "b", 2))


@pytest.mark.parametrize("late", [True, False], ids=["heard of late", "heard of"])
async def test_another_content_of_the_same_version_is_not_written_over(
    store: KubernetesStore, kube: KubeServer, late: bool
) -> None:
    """As after an etcd was put back, or an edit by hand."""
    await must_win(store, held(token=1))
    decided = renewed(store)
    if late:
        deaf(kube)
    kube.patch(LEASES, NAME, {"spec": {"holderIdentity": "b", "leaseTransitions": 2}}, NAMESPACE)
    if not late:
        await until(lambda: (record := store.recall([KEY]).records[KEY]) and record.token == 2)
    assert await store.write([decided]) == set()
    assert stored(kube)["spec"]["holderIdentity"] == "b"
    await must_win(store, renewed(store, "b", 2))


async def test_another_session_object_of_the_same_version_is_not_written_over(
    store: KubernetesStore, kube: KubeServer
) -> None:
    (session, *_) = SESSIONS
    await must_win(store, session)
    deaf(kube)
    kube.delete(LEASES, session_name(session.id), NAMESPACE)
    kube.create(LEASES, session_object(replace(session, holder="b"), None, NAMESPACE, 5), NAMESPACE)
    assert await store.write([replace(session, version=2)]) == set()
    assert stored(kube, session_name(session.id))["spec"]["holderIdentity"] == "b"


def as_stored(record: Record) -> Object:
    """The object as another server makes it."""
    return lease_object(record, None, NAMESPACE, 1_790_000_000 * SECOND)


@pytest.mark.parametrize("label", [None, "mine"], ids=["taken off", "changed"])
async def test_a_lease_whose_label_is_touched_is_kept_and_labelled_again(
    store: KubernetesStore, other: KubernetesStore, kube: KubeServer, label: str | None
) -> None:
    await must_win(store, held())
    kube.patch(LEASES, NAME, {"metadata": {"labels": {MANAGED_BY: label}}}, NAMESPACE)
    await until(lambda: not store.informer and not other.informer)
    await must_win(store, renewed(store))
    assert stored(kube)["metadata"]["labels"] == {MANAGED_BY: LEASE}
    await until(lambda: other.informer)
    kube.patch(LEASES, NAME, {"metadata": {"labels": {MANAGED_BY: label}}}, NAMESPACE)
    await until(lambda: not store.informer and not other.informer)
    observed = await read_one(store)
    assert isinstance(decide(observed, Renew("edge-1", 1, SECOND)).outcome, Renewed)
    assert isinstance(decide(observed, Acquire("b", SECOND)).outcome, NotAcquired)
    await must_win(store, renewed(store))


async def test_a_lease_without_its_label_is_found_among_many(
    store: KubernetesStore, kube: KubeServer
) -> None:
    keys = many_keys(100)
    await must_win(store, *stored_keys(keys), held())
    kube.patch(LEASES, NAME, {"metadata": {"labels": {MANAGED_BY: None}}}, NAMESPACE)
    found = await store.read([*keys, KEY])
    assert None not in [observed.record for observed in found.leases.values()]
    assert kube.asked_for("get", "leases") < 10


async def test_a_session_without_its_label_keeps_what_is_under_it(
    store: KubernetesStore, kube: KubeServer
) -> None:
    (session, *_) = SESSIONS
    await must_win(store, session, held(session=session.id))
    kube.patch(LEASES, session_name(session.id), {"metadata": {"labels": {MANAGED_BY: None}}}, NAMESPACE)
    await until(lambda: len(store.informer) == 1)
    observed = await read_one(store)
    assert session.id in observed.sessions
    assert isinstance(decide(observed, Acquire("b", SECOND)).outcome, NotAcquired)
    await must_win(store, replace(session, version=observed.sessions[session.id].session.version + 1))
    assert stored(kube, session_name(session.id))["metadata"]["labels"] == {MANAGED_BY: SESSION}


async def test_a_storm_of_conflicts_ends(store: KubernetesStore, kube: KubeServer) -> None:
    await must_win(store, held())
    kube.fail(Fault(verb="update", plural="leases", times=3, status=409, reason="Conflict"))
    await must_win(store, replace(held(), version=2))
    kube.fail(Fault(verb="update", plural="leases", times=99, status=409, reason="Conflict"))
    with pytest.raises(PartlyWritten) as fault:
        await store.write([replace(held(), version=3)])
    assert fault.value.failed[KEY].outcome_known


async def test_a_write_whose_answer_was_lost_has_won(store: KubernetesStore, kube: KubeServer) -> None:
    await must_win(store, held())
    kube.fail(Fault("cut after", verb="update", plural="leases"))
    await must_win(store, replace(held(), version=2))


async def test_a_write_that_may_still_come_is_not_told_to_have_lost(
    store: KubernetesStore, kube: KubeServer
) -> None:
    await must_win(store, held())
    kube.fail(Fault(verb="update", plural="leases", status=500))
    with pytest.raises(PartlyWritten) as fault:
        await store.write([replace(held(), version=2)])
    assert not fault.value.failed[KEY].outcome_known
    assert fault.value.won == set()


async def test_patience_is_asked_for_as_the_server_asks(
    store: KubernetesStore, kube: KubeServer, autojump_clock: Clock
) -> None:
    kube.fail(
        Fault(
            verb="get", plural="leases", times=9, status=429, reason="TooManyRequests", retry_after_seconds=60
        )
    )
    with pytest.raises(StoreFault) as fault:
        await store.read([KEY])
    assert (fault.value.outcome_known, fault.value.retry_after_seconds) == (True, 60)


@pytest.mark.parametrize("how", ["deleted", "lowered"])
async def test_a_token_that_was_seen_is_not_given_again(
    store: KubernetesStore, kube: KubeServer, how: str, clock: ManualClock
) -> None:
    await must_win(store, held(token=9))
    if how == "deleted":
        kube.delete(LEASES, NAME, NAMESPACE)
    else:
        kube.patch(LEASES, NAME, {"spec": {"leaseTransitions": 2}}, NAMESPACE)
    clock.advance(60)
    observed = await read_one(store)
    clock.advance(60)
    taken = decide(await read_one(store), Acquire("b", SECOND))
    assert isinstance(taken.outcome, Acquired), observed
    assert taken.outcome.view.token == 10
    assert taken.write is not None
    await must_win(store, taken.write)


@pytest.mark.parametrize("running", [True, False], ids=["running", "started afterwards"])
async def test_no_token_is_given_up_to_the_floor(
    network: Network, clock: ManualClock, journal: Journal, kube: KubeServer, running: bool
) -> None:
    """As after a restore: a lease that the backup has, one that is further on, one that it does not know."""
    floor: Object = {"metadata": {"name": FLOOR, "labels": {MANAGED_BY: LEASE}}}
    floor["spec"] = {"leaseTransitions": 1_000}
    kube.create(LEASES, as_stored(held(token=9)), NAMESPACE)
    further = held(Key("default", "b"), token=2_000)
    kube.create(LEASES, as_stored(further), NAMESPACE)
    if not running:
        kube.create(LEASES, floor, NAMESPACE)
    async with on(network, clock, journal) as store:
        if running:
            kube.create(LEASES, floor, NAMESPACE)
            await until(lambda: len(store.informer) == 3)
        assert renewed(store, token=9).token == 9
        clock.advance(31)
        taken: list[int] = []
        for observed in (await store.read([KEY, further.key, Key("default", "new")])).leases.values():
            outcome = decide(observed, Acquire("b", SECOND)).outcome
            assert isinstance(outcome, Acquired)
            taken.append(outcome.view.token)
        assert taken == [1_001, 2_001, 1_001]
        assert [observed.key async for observed in store.scan(None, 9)] == [KEY, further.key]
    assert "an object among the leases is passed over" not in journal.messages()


async def test_a_held_lease_that_is_deleted_is_held_on(
    store: KubernetesStore, other: KubernetesStore, kube: KubeServer, clock: ManualClock
) -> None:
    await must_win(store, held())
    await until(lambda: other.informer)
    clock.advance(20)
    kube.delete(LEASES, NAME, NAMESPACE)
    await until(lambda: not store.informer and not other.informer)
    for each in (store, other):
        assert isinstance(decide(await read_one(each), Acquire("b", SECOND)).outcome, NotAcquired)
    await must_win(other, renewed(other))
    assert stored(kube)["spec"]["holderIdentity"] == "edge-1"
    await until(lambda: store.informer)
    await must_win(store, renewed(store))


async def test_a_lease_that_was_deleted_and_is_not_renewed_is_free_in_the_end(
    store: KubernetesStore, kube: KubeServer, clock: ManualClock
) -> None:
    await must_win(store, held())
    clock.advance(20)
    deaf(kube)  # it may have been renewed just before, which this server has not heard
    kube.delete(LEASES, NAME, NAMESPACE)
    await read_one(store)
    clock.advance(30)
    assert isinstance(decide(await read_one(store), Acquire("b", SECOND)).outcome, NotAcquired)
    clock.advance(0.000001)
    taken = decide(await read_one(store), Acquire("b", SECOND))
    assert isinstance(taken.outcome, Acquired)
    assert taken.outcome.view.token == 2
    assert taken.write is not None
    await must_win(store, taken.write)


async def test_a_session_that_is_deleted_lives_on(
    store: KubernetesStore, other: KubernetesStore, kube: KubeServer, clock: ManualClock
) -> None:
    (session, *_) = SESSIONS
    await must_win(store, session, replace(held(session=session.id), lock_delay_us=SECOND))
    await until(lambda: len(other.informer) == 2)
    kube.delete(LEASES, session_name(session.id), NAMESPACE)
    await until(lambda: len(other.informer) == len(store.informer) == 1)
    observed = await read_one(other)
    assert isinstance(decide(observed, Acquire("b", SECOND)).outcome, NotAcquired)
    await must_win(other, replace(session, version=observed.sessions[session.id].session.version + 1))
    await until(lambda: len(store.informer) == 2)
    kube.delete(LEASES, session_name(session.id), NAMESPACE)
    await until(lambda: len(store.informer) == 1)
    clock.advance(session.ttl_us / SECOND + 1)
    assert isinstance(decide(await read_one(store), Acquire("b", SECOND)).outcome, NotAcquired), "lock delay"
    clock.advance(0.000002)
    assert decide(await read_one(store), Acquire("b", SECOND)).outcome == EndFirst((session.id,))
    seen = (await read_one(store)).sessions[session.id].session
    await must_win(store, replace(seen, version=seen.version + 1, ended="expired", ended_at_us=1))
    assert isinstance(decide(await read_one(store), Acquire("b", SECOND)).outcome, Acquired)


async def test_others_are_heard_and_their_renewals_are_not(
    store: KubernetesStore, other: KubernetesStore
) -> None:
    changes = store.changes()
    first = await anext(changes)
    assert first.everything
    await must_win(other, held(), SESSIONS[0])
    with trio.fail_after(5):
        assert (await anext(changes)).leases == {KEY}
    await must_win(other, replace(held(), version=2))
    await must_win(other, replace(SESSIONS[0], version=2, ended="clean", ended_at_us=1))
    with trio.fail_after(5):
        heard = await anext(changes)
    assert (heard.leases, heard.sessions) == (frozenset(), {SESSIONS[0].id})
    await changes.aclose()


async def test_a_large_batch_is_bounded_in_time(
    store: KubernetesStore, network: Network, autojump_clock: Clock
) -> None:
    network.latency_seconds = 1
    keys = [Key("default", f"lease-{number}") for number in range(1_000)]
    with pytest.raises(PartlyWritten) as fault:
        await store.write(stored_keys(keys))
    assert len(fault.value.won) + len(fault.value.failed) == 1_000
    assert 16 <= len(fault.value.won) <= 16 * 4
    assert fault.value.failed[keys[-1]].outcome_known, "it was not begun"


def shared(holders: int, name_bytes: int, version: int = 1) -> Record:
    """A lease with so many holders."""
    tenures = tuple(
        Tenure(f"holder-{number}-".ljust(name_bytes, "x"), number, 10**15, 30 * SECOND)
        for number in range(1, holders + 1)
    )
    return Record(KEY, version, holders, tenures, "at-least-once")


async def test_a_thousand_holders_have_room(store: KubernetesStore) -> None:
    """As many as a lease may have at all."""
    await must_win(store, shared(HOLDERS_MAX, 160))
    observed = await read_one(store)
    assert observed.record is not None
    assert len(observed.record.tenures) == HOLDERS_MAX
    await must_win(store, shared(HOLDERS_MAX, 160, version=2))


async def test_a_holder_for_whom_there_is_no_room_is_told_so(store: KubernetesStore) -> None:
    await must_win(store, shared(600, 253))
    with pytest.raises(PartlyWritten) as fault:
        await store.write([shared(HOLDERS_MAX, 253, version=2)])
    failed = fault.value.failed[KEY]
    assert failed.outcome_known
    assert failed.told is not None
    assert failed.told.startswith("a Lease object has no room for 1000 holders")
    # Who is in already goes on, and so does who comes in the place of another.
    await must_win(store, shared(600, 253, version=2))


async def test_an_object_that_is_not_ours_is_a_clear_fault(store: KubernetesStore, kube: KubeServer) -> None:
    kube.create(LEASES, {"metadata": {"name": NAME}, "spec": {"holderIdentity": "x"}}, NAMESPACE)
    with pytest.raises(StoreFault, match="is in the way"):
        await store.read([KEY])


BAD = Key("default", "bad")


@pytest.mark.parametrize("count", [2, 100])
async def test_an_object_that_is_not_ours_keeps_nobody_from_the_others(
    store: KubernetesStore, kube: KubeServer, count: int
) -> None:
    keys = many_keys(count)
    await must_win(store, *stored_keys(keys))
    kube.create(LEASES, {"metadata": {"name": object_name(BAD)}, "spec": {"holderIdentity": "x"}}, NAMESPACE)
    with pytest.raises(PartlyRead) as fault:
        await store.read([BAD, *keys], ["nobody"])
    assert list(fault.value.failed) == [BAD]
    assert list(fault.value.reading.leases) == keys
    assert None not in [observed.record for observed in fault.value.reading.leases.values()]
    with pytest.raises(PartlyWritten) as unwritten:
        await store.write([held(BAD), held(KEY)])
    assert (list(unwritten.value.failed), unwritten.value.won) == ([BAD], {KEY})


async def test_a_lease_under_a_session_that_is_not_ours_is_not_judged(
    store: KubernetesStore, kube: KubeServer
) -> None:
    (session, *_) = SESSIONS
    kube.create(LEASES, as_stored(held(session=session.id)), NAMESPACE)
    kube.create(LEASES, {"metadata": {"name": session_name(session.id)}, "spec": {}}, NAMESPACE)
    with pytest.raises(PartlyRead) as fault:
        await store.read([KEY, BAD])
    assert list(fault.value.failed) == [KEY]
    assert list(fault.value.reading.leases) == [BAD]


async def test_an_object_that_was_ours_is_not_written_over(store: KubernetesStore, kube: KubeServer) -> None:
    await must_win(store, held())
    decided = renewed(store)
    kube.patch(LEASES, NAME, {"metadata": {"annotations": {"berth.skaphos.io/lease-name": "b"}}}, NAMESPACE)
    with pytest.raises(PartlyWritten, match="1 writes"):
        await store.write([decided])
    assert stored(kube)["metadata"]["annotations"]["berth.skaphos.io/lease-name"] == "b"


async def test_a_reading_is_bounded_in_time(
    store: KubernetesStore, network: Network, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_reading, "AT_ONCE", 2)
    network.latency_seconds = 2.5
    keys = [Key("default", f"lease-{number}") for number in range(7)]
    begun = trio.current_time()
    with pytest.raises(StoreFault, match="within 4 s") as fault:
        await store.read(keys)
    assert fault.value.outcome_known
    assert trio.current_time() - begun == 4


async def test_a_ping_is_a_write_that_leaves_nothing(store: KubernetesStore, kube: KubeServer) -> None:
    await store.ping()
    assert kube.storage.of("leases", NAMESPACE) == []
    kube.delete(NAMESPACES, NAMESPACE, "")
    with pytest.raises(StoreFault, match=f'"{NAMESPACE}" not found'):
        await store.ping()


class TestOpening:
    """What is wrong is told before anything is served, with what to do."""

    async def refused(self, network: Network, clock: ManualClock, journal: Journal) -> str:
        with pytest.raises(StoreRefused) as fault:
            async with on(network, clock, journal):
                pass
        return str(fault.value)

    async def test_a_namespace_that_is_not_there(
        self, network: Network, clock: ManualClock, journal: Journal, kube: KubeServer
    ) -> None:
        kube.delete(NAMESPACES, NAMESPACE, "")
        told = await self.refused(network, clock, journal)
        assert told.startswith("the cluster has no namespace coordination (--coordination-namespace)")
        assert "kubectl create namespace coordination" in told

    async def test_all_rights_that_are_missing_are_told_at_once(
        self, network: Network, clock: ManualClock, journal: Journal, kube: KubeServer
    ) -> None:
        for verb in ("watch", "update", "delete"):
            kube.fail(Fault(verb=verb, plural="leases", status=403, reason="Forbidden", message="no, no"))
        told = await self.refused(network, clock, journal)
        assert "does not allow to watch, update, delete leases in the namespace coordination" in told
        assert "bind the Role" in told
        assert told.endswith("no, no")

    async def test_credentials_that_are_not_accepted(
        self, network: Network, clock: ManualClock, journal: Journal, kube: KubeServer
    ) -> None:
        kube.guarded = True
        told = await self.refused(network, clock, journal)
        assert told.startswith("the cluster does not accept the credentials (--coordination-kubeconfig)")

    async def test_a_cluster_that_is_not_there(
        self, network: Network, clock: ManualClock, journal: Journal
    ) -> None:
        network.down = True
        assert (await self.refused(network, clock, journal)).startswith("cannot use the leases")

    async def test_a_cluster_that_falls_silent(
        self,
        network: Network,
        clock: ManualClock,
        journal: Journal,
        kube: KubeServer,
        autojump_clock: Clock,
    ) -> None:
        kube.fail(Fault("hang", verb="list", plural="leases", times=99))
        assert "no answer in time" in await self.refused(network, clock, journal)

    async def test_nothing_is_left_of_the_trial(self, store: KubernetesStore, kube: KubeServer) -> None:
        assert kube.storage.of("leases", NAMESPACE) == []


@pytest.mark.parametrize("how", ["asked", "left alone"])
async def test_a_real_cluster_that_was_put_back_is_noticed(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """By whoever asks for what is older now; by watches that tell nothing, here after seconds already."""
    monkeypatch.setattr(reflector, "IDLE_SECONDS", 3.0)
    late, place = Key("default", "late"), "kube-public"
    with kube_apiserver() as server:
        access = await access_by_kubeconfig(
            str(server.kubeconfig(tmp_path / "kubeconfig")), logger=journal.logger
        )
        async with (
            open_client(access) as client,
            opened_on(client, place, SystemClock(), journal.logger, Random(1)) as store,
        ):
            await must_win(store, held())
            await trio.to_thread.run_sync(server.back_up)
            await must_win(store, renewed(store), held(late))
            await trio.to_thread.run_sync(server.put_back)
            with trio.fail_after(60):
                while store.recall([KEY]).leases[KEY].quarantine is None:
                    if how == "asked":
                        await store.read([KEY])
                    await trio.sleep(0.1)
            observed = (await store.read([KEY, late])).leases
            refused = decide(observed[late], Acquire("b", SECOND)).outcome
            assert isinstance(refused, Refused)
            assert refused.reason == "quarantine"
            kept = decide(observed[late], Renew("edge-1", 1, 30 * SECOND))
            assert kept.write is not None
            await must_win(store, kept.write)
            assert await client.get(LEASES, object_name(late), place)


async def test_the_rights_are_those_that_are_used(store: KubernetesStore, kube: KubeServer) -> None:
    """Each call of a store, and nothing that its Role does not allow."""
    kube.calls.clear()
    ended = replace(SESSIONS[0], version=2, ended="clean", ended_at_us=1)
    await must_win(store, held(), SESSIONS[0])
    await must_win(store, replace(held(), version=2), ended)
    await store.read([KEY])
    await store.read([Key("default", f"lease-{number}") for number in range(100)])
    await store.forget([SESSIONS[0].id])
    await store.ping()
    for watch in kube.watches.open:
        watch.end()
    await until(lambda: kube.asked_for("watch", "leases"), within_seconds=10)
    assert set(kube.calls) == {(verb, "leases") for verb in VERBS}
