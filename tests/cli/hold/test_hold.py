"""`berth lease hold` when all goes well, or it is told to end: codes, hand-overs, signals, what it tells."""

import json
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from berth.runtime.clock import SystemClock, boot_id
from tests.cli.conftest import Berth
from tests.cli.hold.holders import Holder, Stage, together, until
from tests.cli.server import saying
from tests.support.proxy import open_proxy

TELL = """
import json, os, stat, sys
path = os.environ["BERTH_STATE_FILE"]
modes = [stat.S_IMODE(os.stat(name).st_mode) for name in (path, os.path.dirname(path))]
told = {name: os.environ[name] for name in ("BERTH_LEASE", "BERTH_FENCING_TOKEN", "BERTH_STATE_FILE")}
json.dump({**told, "modes": modes, "state": json.load(open(path))}, open(sys.argv[1], "w"))
"""


async def test_a_command_has_its_own_exit_code(stage: Stage) -> None:
    async def case(number: int, script: str, code: int) -> None:
        name = f"code-{number}"
        holder = await stage.start(name, "--", "sh", "-c", script)
        assert await holder.code() == code
        assert holder.told == ("out\n" if code == 0 else "")
        assert await stage.is_free(name)

    async def missing() -> None:
        holder = await stage.start("missing", "--", "no-such-command")
        assert await holder.code() == 127
        assert "cannot run no-such-command" in holder.told
        assert await stage.is_free("missing")

    cases = {"echo out": 0, "exit 7": 7, "exit 3": 3, "kill -USR1 $$": 128 + signal.SIGUSR1}
    await together(missing, *(partial(case, i, *row) for i, row in enumerate(cases.items())))


async def test_the_command_is_told_its_leases_in_the_order_given(stage: Stage, tmp_path: Path) -> None:
    begun_us = SystemClock().boot_us()
    told = tmp_path / "told"
    for _ in range(2):  # the second time the tokens differ
        command = (sys.executable, "-c", TELL, str(told))
        holder = await stage.start("told-b", "told-a", "--ttl", "30s", "--", *command)
        assert await holder.code() == 0, holder.told
        holder = await stage.start("told-b", "--", "true")
        assert await holder.code() == 0
    now_us = SystemClock().boot_us()

    seen = json.loads(told.read_text())
    assert seen["BERTH_LEASE"] == "default/told-b,default/told-a"
    assert seen["BERTH_FENCING_TOKEN"] == "3,2"
    assert seen["modes"] == [0o600, 0o700]
    assert seen["state"]["bootId"] == boot_id()
    one, other = seen["state"]["leases"]
    assert (one["namespace"], one["name"], one["fencingToken"]) == ("default", "told-b", 3)
    assert (other["namespace"], other["name"], other["fencingToken"]) == ("default", "told-a", 2)
    assert one["holder"] == other["holder"]
    assert begun_us < one["mayActUntilBootUs"] < now_us + 25_000_000
    assert not Path(seen["BERTH_STATE_FILE"]).parent.exists()


async def test_the_next_one_starts_when_the_first_ends(stage: Stage) -> None:
    lease = stage.lease("handed-over")
    first = await lease.hold("--ttl", "60s")
    await lease.active(1)
    second = await lease.hold()
    await second.until_told("berth: waiting for default/handed-over: held by ")
    first.signal(signal.SIGTERM)
    assert await first.code() == 40
    await lease.active(2)
    assert "berth: holding default/handed-over with token 2" in second.told
    second.signal(signal.SIGTERM)
    assert await second.code() == 40
    lease.check(1, 2)


async def test_signals_go_to_the_command_and_the_lease_is_given_back(stage: Stage) -> None:
    async def case(name: str, mode: str, number: signal.Signals, code: int, *flags: str) -> None:
        lease = stage.lease(f"signalled-{name}")
        holder = await lease.hold("--ttl", "60s", *flags, mode=mode)
        await lease.active(1)
        holder.signal(number)
        assert await holder.code() == code
        lease.check(1)
        assert await stage.is_free(lease.name)

    async def twice() -> None:
        lease = stage.lease("signalled-twice")
        holder = await lease.hold("--ttl", "600s", "--grace", "100s", mode="deaf")
        await lease.active(1)
        holder.signal(signal.SIGINT)
        await lease.active(1)
        holder.signal(signal.SIGINT)
        assert await holder.code() == 137
        lease.check(1)
        assert await stage.is_free(lease.name)

    await together(
        partial(case, "term", "plain", signal.SIGTERM, 40),
        partial(case, "int", "plain", signal.SIGINT, 41),
        partial(case, "hup", "plain", signal.SIGHUP, 128 + signal.SIGHUP),
        partial(case, "deaf", "deaf", signal.SIGTERM, 137),
        partial(case, "forks", "forks", signal.SIGTERM, 40),
        partial(case, "restart", "plain", signal.SIGTERM, 40, "--restart"),
        twice,
    )


async def test_what_it_was_started_to_ignore_is_ignored(stage: Stage) -> None:
    holder = await stage.start("ignoring", "--", "sh", "-c", "echo up; sleep 100", under=("nohup",))
    await holder.until_told("up\n")
    holder.signal(signal.SIGHUP)
    holder.signal(signal.SIGTERM)  # a second signal would kill
    assert await holder.code() == 128 + signal.SIGTERM


async def test_a_signal_ends_the_waiting(stage: Stage) -> None:
    holding = stage.lease("waited-for")
    holder = await holding.hold("--ttl", "60s")
    await holding.active(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The first of the two is held meanwhile; it must not stay so.
        waiting = await stage.start("free-meanwhile", "waited-for", "--", "true")
        await waiting.until_told("waiting for default/waited-for")
        assert not await stage.is_free("free-meanwhile")
        waiting.signal(number)
        assert await waiting.code() == 128 + number
        assert await stage.is_free("free-meanwhile")
    holder.signal(signal.SIGTERM)
    assert await holder.code() == 40


async def test_one_lost_lease_of_two_stops_the_command(stage: Stage) -> None:
    lease = stage.lease("two-b")
    holder = await lease.hold("two-a")
    await lease.active(1)
    await stage.force_release("two-a", 1)
    assert await holder.code() == 4
    assert "error: lost default/two-a: " in holder.told
    assert lease.stopped()
    assert await stage.is_free("two-b")


async def test_after_a_loss_it_runs_again_if_asked_to(stage: Stage) -> None:
    async def refused() -> None:
        lease = stage.lease("again-refused")
        holder = await lease.hold("--restart")
        await lease.active(1)
        await stage.force_release(lease.name, 1)
        await lease.active(2)
        await end(holder)
        lease.check(1, 2)

    async def cut_off() -> None:
        lease = stage.lease("again-cut-off")
        async with open_proxy(stage.server.address) as proxy:
            holder = await lease.hold("--restart", via=proxy.url)
            await lease.active(1)
            proxy.refuse()
            await until(lease.stopped)
            await proxy.mend()
            await lease.active(2)
            await end(holder)
        lease.check(1, 2)

    async def end(holder: Holder) -> None:
        assert "the command was stopped and runs again" in holder.told
        holder.signal(signal.SIGTERM)
        assert await holder.code() == 40

    async def not_after_a_signal() -> None:
        lease = stage.lease("again-signalled")
        async with open_proxy(stage.server.address) as proxy:
            holder = await lease.hold("--restart", "--grace", "60s", via=proxy.url, mode="deaf")
            await lease.active(1)
            holder.signal(signal.SIGTERM)
            proxy.refuse()
            assert await holder.code() == 4
        lease.check(1)

    await together(refused, cut_off, not_after_a_signal)


async def test_a_shared_lease_outlives_a_cut(stage: Stage) -> None:
    lease = stage.lease("shared", exclusive=False)
    async with open_proxy(stage.server.address) as proxy:
        shared = ("--semantics", "at-least-once")
        one = await lease.hold(*shared, via=proxy.url, ttl=2)
        await lease.active(1)
        proxy.reset()
        other = await lease.hold(*shared)
        await lease.active(2)
        await trio.sleep(1.3 * 2)
        await lease.active(1)
        # Its tenure has expired at the server, which says so once it can be asked again.
        await proxy.mend()
        assert await one.code() == 4
        other.signal(signal.SIGTERM)
        assert await other.code() == 40


async def test_not_acquired_in_time(stage: Stage) -> None:
    lease = stage.lease("busy")
    holder = await lease.hold("--ttl", "60s", "--holder", "worker")
    await lease.active(1)
    for wait in ("0", "300ms"):
        late = await stage.start("busy", "--wait", wait, "--", "true")
        assert await late.code() == 3
        assert "error: not acquired: default/busy: held by worker:" in late.told
        assert ("waiting for" in late.told) == (wait != "0")
    holder.signal(signal.SIGTERM)
    assert await holder.code() == 40


class TestWithoutACommand:
    def test_not_allowed(self, berth: Berth):
        with saying(403, {"error": "no", "code": "forbidden_holder"}) as url:
            ran = berth("lease", "hold", "x", "--holder", "y", "--api-server", url, "--", "false")
        assert ran.code == 5
        assert "berth whoami shows the tenant" in ran.err

    @pytest.mark.parametrize("key", [(), ("--api-key", "k")])
    def test_unreachable(self, berth: Berth, key: tuple[str, ...]):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"https://127.0.0.1:{unused.getsockname()[1]}"
            ran = berth("lease", "hold", "x", "--wait", "50ms", "--api-server", url, *key, "--", "false")
        assert ran.code == 6
        assert "cannot connect to" in ran.err

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("x", "which command?"),
            ("x --", "which command?"),
            ("-- true", "which lease?"),
            ("x x -- true", "a lease is named twice"),
            ("x --ttl 1500ms -- true", "--ttl must be whole seconds"),
            ("x --nonsense -- true", "No such option"),
        ],
    )
    def test_usage(self, berth: Berth, line: str, told: str):
        ran = berth("lease", "hold", *line.split())
        assert ran.code == 2
        assert told in ran.err

    def test_a_grace_that_does_not_fit_is_told_once(self, berth: Berth):
        with saying(403, {"error": "no", "code": "forbidden_holder"}) as url:
            hold = ("lease", "hold", "x", "--holder", "y", "--api-server", url)
            assert "with a ttl of 10s the command has 2.0 s" in berth(*hold, "--ttl", "10s", "--", "no").err
            for fits in (
                ("--ttl", "22s"),
                ("--ttl", "10s", "--grace", "2s"),
                ("--semantics", "at-least-once"),
            ):
                assert "with a ttl" not in berth(*hold, *fits, "--", "no").err
