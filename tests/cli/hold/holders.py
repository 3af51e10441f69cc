"""Real `berth lease hold` processes, and a record of when their commands were active.

Owns the processes and what they wrote down. Promises that waiting is for a condition, with a deadline.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

import trio

from berth.client import BerthClient
from tests.runtime.child_processes import gone
from tests.support.apiserver import Apiserver, plain_environment

RECORDING = Path(__file__).with_name("recording_command.py")
DEADLINE_SECONDS = 25.0
TTL_SECONDS = 3
GRACE = "500ms"
BUDGET_US = 687_500
"""The grace and the time for killing, a sixteenth of the ttl."""


class Line(NamedTuple):
    token: int  # of the first lease, where there are several
    kind: str
    boot_us: int
    until_us: int
    pid: int


class Holder:
    """A `berth lease hold` process."""

    def __init__(self, process: trio.Process, told: Path) -> None:
        self._process = process
        self._told = told

    @property
    def told(self) -> str:
        return self._told.read_text()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def code(self) -> int:
        with trio.fail_after(DEADLINE_SECONDS):
            return await self._process.wait()

    async def until_told(self, text: str) -> None:
        await until(lambda: text in self.told)


class Lease:
    """One lease, the holders that contend for it, and the record of their commands."""

    def __init__(self, stage: "Stage", name: str) -> None:
        self.name = name
        self._stage = stage
        self._log = stage.folder / f"{name}.log"

    async def hold(self, *flags: str, via: str = "", mode: str = "plain", ttl: int = TTL_SECONDS) -> Holder:
        terms = (self.name, "--ttl", f"{ttl}s", "--grace", GRACE, *flags)
        command = (sys.executable, "-I", "-S", str(RECORDING), str(self._log), mode)
        return await self._stage.start(*terms, "--", *command, via=via)

    def lines(self, token: int | None = None) -> list[Line]:
        text = self._log.read_text() if self._log.exists() else ""
        rows = (row.split() for row in text.splitlines(keepends=True) if row.endswith("\n"))
        lines = [
            Line(int(row[0].split(",")[0]), row[1], int(row[2]), int(row[3]), int(row[4])) for row in rows
        ]
        return [line for line in lines if token in (None, line.token)]

    async def active(self, token: int) -> None:
        """Wait until a command is active under the token."""
        before = len(self.lines(token))
        await until(lambda: len(self.lines(token)) > before)

    async def renewed(self) -> None:
        """Wait until the command has seen its end move on."""
        known_us = self.lines()[-1].until_us
        await until(lambda: self.lines()[-1].until_us > known_us)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command that was active last."""
        os.kill(self.lines()[-1].pid, number)

    def stopped(self) -> bool:
        return all(gone(line.pid) for line in self.lines())

    def check_in_time(self, token: int) -> None:
        """The command's last sign was before the end of what it may, as its holder last knew it."""
        last = self.lines(token)[-1]
        known_us = max(line.until_us for line in self.lines(token))
        assert last.boot_us <= known_us + BUDGET_US

    def check(self, *tokens: int) -> None:
        """These were active, one after another, and nothing of them is left."""
        lines = self.lines()
        assert list(dict.fromkeys(line.token for line in lines)) == list(tokens)
        self.check_one_at_a_time()
        assert self.stopped()

    def check_one_at_a_time(self) -> None:
        tokens = sorted({line.token for line in self.lines()})
        for one, next_one in pairwise(tokens):
            assert self.lines(one)[-1].boot_us < self.lines(next_one)[0].boot_us, "two were active at once"


class Stage:
    """A server, and a folder for what happens."""

    def __init__(self, server: Apiserver, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self._holders: list[Holder] = []
        self._exclusive: list[Lease] = []
        self._numbers = count()

    def lease(self, name: str, *, exclusive: bool = True) -> Lease:
        """A lease of this stage. In the end an exclusive one must have had one active command at a time."""
        lease = Lease(self, name)
        if exclusive:
            self._exclusive.append(lease)
        return lease

    async def start(self, *line: str, via: str = "", under: Sequence[str] = ()) -> Holder:
        told = self.folder / f"told-{next(self._numbers)}"
        env = {
            **plain_environment(),
            "BERTH_API_SERVER": via or self.server.url,
            "BERTH_CA_FILE": str(self.server.ca_file),
            "TMPDIR": str(self.folder),
        }
        with told.open("w") as stderr:
            process = await trio.lowlevel.open_process(
                [*under, sys.executable, "-m", "berth", "lease", "hold", *line],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=env,
            )
        self._holders.append(Holder(process, told))
        return self._holders[-1]

    async def force_release(self, name: str, token: int) -> None:
        async with BerthClient(self.server.url, ca_file=self.server.ca_file) as client:
            await client.force_release("default", name, fencing_token=token, reason="a test")

    async def is_free(self, name: str) -> bool:
        async with BerthClient(self.server.url, ca_file=self.server.ca_file) as client:
            return (await client.get_lease("default", name)).state == "free"

    async def close(self) -> None:
        for holder in self._holders:
            holder.signal(signal.SIGKILL)
            await holder.code()
        for lease in self._exclusive:
            lease.check_one_at_a_time()


@asynccontextmanager
async def open_stage(server: Apiserver, folder: Path) -> AsyncGenerator[Stage]:
    """A stage that leaves no process behind."""
    stage = Stage(server, folder)
    try:
        yield stage
    finally:
        with trio.CancelScope(shield=True):
            await stage.close()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while True:
            if condition():
                return
            await trio.sleep(0.02)


async def together(*cases: Callable[[], Awaitable[None]], at_once: int = 12) -> None:
    """Run cases at the same time, for they mostly wait; but not so many that they starve each other."""
    places = trio.CapacityLimiter(at_once)

    async def run(case: Callable[[], Awaitable[None]]) -> None:
        async with places:
            await case()

    async with trio.open_nursery() as nursery:
        for case in cases:
            nursery.start_soon(run, case)
