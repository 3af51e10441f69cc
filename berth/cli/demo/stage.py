"""The stage: a real API server, two clusters as processes of their own, and a look at all of it.

Owns the temporary directory and everything that is started. Promises that on leaving, in whatever way, no
process and no file is left. The server is in this process, so that it outlives the clusters' ends.
"""

import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from msgspec import UNSET

from berth.cli.demo.command import CLUSTERS, LEASES, NAMESPACE, itself
from berth.cli.demo.ledger import Reader, Run, runs_of
from berth.cli.demo.view import Row
from berth.cli.own_server import Key, ensure_keys, server_options, server_url
from berth.client import BerthClient
from berth.roles.apiserver.app import serve as serve_api
from berth.runtime.child import Child, open_child
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.devca import ensure_dev_files
from berth.runtime.log import Logs
from berth.runtime.supervise import Handle, open_service_nursery
from berth.wire.shapes import LeaseObject

END_SECONDS = 10.0
ACTIVE_SECONDS = 0.5
"""A job whose newest line is older does not run any more; a busy machine may delay a line."""

_LEDGER = "ledger"
_READER = Key("audience", "reader", file="audience.key")
_HOLDERS = [Key(cluster, "holder", file=f"{cluster}.key") for cluster in CLUSTERS]


class Unmet(Exception):
    """Something that was to happen did not; the text says what."""


class Stage:
    """What the story is played with. `clock` is the one that the ledger's lines are stamped with."""

    def __init__(
        self, directory: Path, url: str, client: BerthClient, *, clock: Clock, ttl_seconds: int
    ) -> None:
        self.clock = clock
        self.ttl_seconds = ttl_seconds
        self.ledger = Reader(directory / _LEDGER)
        self._directory = directory
        self._url = url
        self._client = client
        self._clusters: dict[str, Child] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self, cluster: str) -> None:
        """Start the cluster, or start it again."""
        command = itself(
            "demo-cluster",
            f"--cluster={cluster}",
            f"--ledger={self._directory / _LEDGER}",
            f"--ttl={self.ttl_seconds}",
        )
        child = open_child(command, env=self._environment(cluster))
        self._clusters[cluster] = await self._stack.enter_async_context(child)

    async def kill(self, cluster: str) -> None:
        """End the cluster and all it runs, without a word; returns when nothing is left. Raises Unmet."""
        self._clusters[cluster].signal(signal.SIGKILL)
        await self.ended(cluster)

    def ask_to_end(self, cluster: str) -> None:
        """Ask the cluster to end in order (SIGTERM)."""
        self._clusters[cluster].signal(signal.SIGTERM)

    async def ended(self, cluster: str) -> None:
        """Returns when nothing is left of the cluster. Raises Unmet when it takes too long."""
        with trio.move_on_after(END_SECONDS) as limit:
            await self._clusters[cluster].wait()
        if limit.cancelled_caught:
            raise Unmet(f"{cluster} did not end within {END_SECONDS:g} s")

    async def leases(self) -> dict[str, LeaseObject]:
        """The leases as the server tells them; one that was never held is missing."""
        page = await self._client.list_page(NAMESPACE)
        return {lease.name: lease for lease in page.items}

    async def look(self) -> list[Row]:
        """How each lease stands, and which job the ledger shows as active."""
        leases = await self.leases()
        runs = {run.lease: run for run in runs_of(self.ledger.read())}  # the newest of each
        return [_row(name, leases.get(name), self._active(runs.get(name))) for name in LEASES]

    def _active(self, run: Run | None) -> Run | None:
        if run is None or run.ended or self.clock.boot_us() - run.last_us > ACTIVE_SECONDS * MICROSECONDS:
            return None
        return run

    def _environment(self, cluster: str) -> dict[str, str]:
        """This process's own, with the demo's server and files in it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}
        return inherited | {
            "BERTH_API_SERVER": self._url,
            "BERTH_API_KEY_FILE": str(self._directory / f"{cluster}.key"),
            "BERTH_CA_FILE": str(self._directory / "ca.pem"),
            "BERTH_NAMESPACE": NAMESPACE,
            "TMPDIR": str(self._directory),  # what is killed cleans nothing up
        }


def _row(name: str, lease: LeaseObject | None, run: Run | None) -> Row:
    if lease is None:
        return Row(name, "", 0, 0.0, run)
    left = 0.0 if lease.remaining_seconds is UNSET else lease.remaining_seconds
    holder = (lease.holder or "").partition("/")[0]
    return Row(name, holder, lease.fencing_token, left, run)


@asynccontextmanager
async def open_stage(ttl_seconds: int, clock: Clock) -> AsyncIterator[Stage]:
    """The server serves; no cluster is started yet."""
    with tempfile.TemporaryDirectory(prefix="berth-demo-") as name:
        directory = Path(name)
        files = ensure_dev_files(directory, clock=clock)
        ensure_keys(directory, _READER, *_HOLDERS)
        options = server_options(directory, files, listen_addr="127.0.0.1:0")
        logs = Logs("error", "text", stream=sys.stderr)
        with logs.capturing_stdlib():
            async with open_service_nursery() as nursery:
                serving: Handle = await nursery.start(partial(serve_api, options, logs=logs))
                url = server_url(serving.addresses[0])
                client = BerthClient(url, api_key_file=directory / _READER.file, ca_file=files.ca)
                async with (
                    client,
                    Stage(directory, url, client, clock=clock, ttl_seconds=ttl_seconds) as stage,
                ):
                    yield stage
                nursery.cancel_scope.cancel()
