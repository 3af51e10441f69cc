"""The door to prometheus_client: one registry, made by the process entry and handed down.

Owns the registry, the process's own collectors, `berth_build_info` and the text that a scrape gets.
Promises that nothing is registered globally, so that several roles and tests live side by side. Does not
serve it.
"""

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Makes instruments and renders them. A name can be made once; a second time is a ValueError."""

    def __init__(self, *, version: str, commit: str, python: str) -> None:
        disable_created_metrics()  # a series more for each, which no dashboard reads
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        build = self.gauge("berth_build_info", "What runs here; always 1.", ("version", "commit", "python"))
        build.labels(version, commit, python).set(1)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, help_text, labels, registry=self._registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, help_text, labels, registry=self._registry)

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS,
    ) -> Histogram:
        return Histogram(name, help_text, labels, registry=self._registry, buckets=buckets)

    def render(self) -> bytes:
        """Everything, in the text format that CONTENT_TYPE names."""
        return generate_latest(self._registry)
