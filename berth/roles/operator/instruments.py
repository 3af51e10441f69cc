"""The operator's metrics. None carries the name of a lease, an object or a holder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Literal, Protocol, get_args

from berth.core.reconcile import Cause
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.metrics import Metrics

State = Literal["held", "standby", "stopping", "invalid"]
Transition = Literal["acquired", "stopped"] | Cause

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Observed(Protocol):
    """A histogram."""

    def observe(self, amount: float) -> None: ...


class Instruments:
    """`clock` times what is measured."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._leases = metrics.gauge("berth_operator_leases", "BerthLeases by state.", ("state",))
        self._transitions = metrics.counter(
            "berth_operator_transitions_total", "Leases won, stopped, and lost by cause.", ("cause",)
        )
        for transition in ("acquired", "stopped", *get_args(Cause)):
            self._transitions.labels(transition)
        self._deadline = metrics.gauge(
            "berth_operator_deadline_seconds",
            "Until the first stop is due if nothing is heard from the lease API; +Inf: nothing is held.",
        )
        self._reconcile = metrics.histogram(
            "berth_operator_reconcile_duration_seconds",
            "Time to look after one BerthLease.",
            (),
            buckets=_SECONDS,
        )
        self._stop = metrics.histogram(
            "berth_operator_stop_duration_seconds", "Time to write one stop.", (), buckets=_SECONDS
        )
        # Until it leads: a gauge that nobody has set reads 0, as if a stop were due.
        self.follow(lambda _: 0, lambda: inf)

    def follow(self, count: Callable[[State], int], deadline_seconds: Callable[[], float]) -> None:
        """Where the gauges read what is so at the moment."""
        for state in get_args(State):
            self._leases.labels(state).set_function(lambda state=state: count(state))
        self._deadline.set_function(deadline_seconds)

    def transition(self, cause: Transition) -> None:
        self._transitions.labels(cause).inc()

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        with self._timed(self._reconcile):
            yield

    @contextmanager
    def stopping(self) -> Iterator[None]:
        with self._timed(self._stop):
            yield

    @contextmanager
    def _timed(self, histogram: Observed) -> Iterator[None]:
        began_us = self._clock.boot_us()
        try:
            yield
        finally:
            histogram.observe((self._clock.boot_us() - began_us) / MICROSECONDS)
