"""Kubernetes Events: what happened to an object, for who runs `kubectl describe`.

Owns the wording of Event objects, and their sending. Promises that telling never waits and never fails, that
what is told again within a while is one Event with a count, and that a cluster which does not take them costs
a bounded amount of memory and requests. What is lost is only a report: an Event is never the record of a
decision.

Core `v1` Events, not `events.k8s.io/v1`: both are the same objects in the cluster, and this is the group that
the reference's roles already permit.
"""

from collections import OrderedDict
from collections.abc import Mapping
from random import Random
from typing import Any, Literal, NamedTuple

import trio
from msgspec import Struct

from berth.kube.api import KubeClient
from berth.kube.faults import AlreadyExists, Conflict, KubeFault, NotFound, TooManyRequests, Unavailable
from berth.kube.objects import EVENTS, Object, reference_to, second_time
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.log import Logger

PENDING_MAX = 4000
KNOWN_MAX = 4000
TRIES = 3
RETRY_SECONDS = 1.0
AGAIN_SECONDS = 600.0
"""What happens again later than this is told as something new."""

MESSAGE_CHARACTERS = 1024
CLUSTER_NAMESPACE = "default"
"""Where Events about objects without a namespace are kept."""

Kind = Literal["Normal", "Warning"]


class _What(NamedTuple):
    """Events that are the same but for when."""

    regarding: tuple[tuple[str, str], ...]
    kind: Kind
    reason: str
    message: str


class _Pending(Struct):
    """Told, and not sent yet: how often, first and last when."""

    regarding: Object
    count: int
    first_us: int
    last_us: int


class _Known(Struct):
    """Sent: under which name, how often it has been told in all."""

    name: str
    count: int
    first_us: int
    last_us: int


class EventRecorder:
    """`component` and `instance` say who tells. Run it with `run`."""

    def __init__(
        self, client: KubeClient, *, component: str, instance: str, clock: Clock, rng: Random, logger: Logger
    ) -> None:
        self._client = client
        self._component = component
        self._instance = instance
        self._clock = clock
        self._rng = rng
        self._logger = logger
        self._pending: OrderedDict[_What, _Pending] = OrderedDict()
        self._known: OrderedDict[_What, _Known] = OrderedDict()
        self._told = trio.Event()
        self._empty = trio.Event()
        self._empty.set()
        self.dropped = 0
        """How many could not be told, or not be sent."""

    def tell(self, regarding: Mapping[str, Any], kind: Kind, reason: str, message: str) -> None:
        """Something happened to this object. `reason` is one CamelCase word, `message` a sentence."""
        reference = reference_to(regarding)
        about = tuple((key, value) for key, value in reference.items() if key != "resourceVersion")
        what = _What(about, kind, reason, message[:MESSAGE_CHARACTERS])
        now_us = self._clock.wall_us()
        pending = self._pending.get(what)
        if pending is not None:
            pending.count += 1
            pending.last_us = now_us
        elif len(self._pending) >= PENDING_MAX:
            if not self.dropped:
                self._logger.warning("more events than can be sent: some are not told", most=PENDING_MAX)
            self.dropped += 1
        else:
            self._pending[what] = _Pending(reference, 1, now_us, now_us)
            if self._empty.is_set():
                self._empty = trio.Event()
            self._told.set()

    async def sent(self) -> None:
        """Returns when all that was told has been sent or given up."""
        await self._empty.wait()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            while not self._pending:
                self._empty.set()
                self._told = trio.Event()
                await self._told.wait()
            what, pending = self._pending.popitem(last=False)
            await self._deliver(what, pending)

    async def _deliver(self, what: _What, pending: _Pending) -> None:
        # One name for all tries: one that was taken unheard is not told twice.
        name = f"{pending.regarding.get('name', 'unnamed')}.{self._rng.getrandbits(64):016x}"
        for tries_left in reversed(range(TRIES)):
            try:
                await self._send(name, what, pending)
                return
            except (TooManyRequests, Unavailable) as fault:
                if tries_left:
                    await trio.sleep((fault.retry_after_seconds or RETRY_SECONDS) * self._rng.uniform(1, 2))
                    continue
                self._give_up(what, pending, fault)
            except KubeFault as fault:
                self._give_up(what, pending, fault)
                return

    def _give_up(self, what: _What, pending: _Pending, fault: KubeFault) -> None:
        self.dropped += pending.count
        self._logger.warning("event not sent", reason=what.reason, message=what.message, error=str(fault))

    async def _send(self, name: str, what: _What, pending: _Pending) -> None:
        known = self._known.get(what)
        if known is not None and pending.last_us - known.last_us < AGAIN_SECONDS * MICROSECONDS:
            count = known.count + pending.count
            patch: Object = {"count": count, "lastTimestamp": second_time(pending.last_us)}
            try:
                await self._client.merge_patch(EVENTS, known.name, _namespace(pending.regarding), patch=patch)
                self._remember(what, _Known(known.name, count, known.first_us, pending.last_us))
                return
            except (NotFound, Conflict):
                pass  # the cluster forgets Events after an hour
        try:
            await self._client.create(EVENTS, self._event(name, what, pending))
        except AlreadyExists:
            pass
        self._remember(what, _Known(name, pending.count, pending.first_us, pending.last_us))

    def _remember(self, what: _What, known: _Known) -> None:
        self._known[what] = known
        self._known.move_to_end(what)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def _event(self, name: str, what: _What, pending: _Pending) -> Object:
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": _namespace(pending.regarding)},
            "involvedObject": pending.regarding,
            "type": what.kind,
            "reason": what.reason,
            "message": what.message,
            "count": pending.count,
            "firstTimestamp": second_time(pending.first_us),
            "lastTimestamp": second_time(pending.last_us),
            "source": {"component": self._component, "host": self._instance},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }


def _namespace(regarding: Object) -> str:
    return regarding.get("namespace") or CLUSTER_NAMESPACE
