"""`berth lease hold` when network, server, holder or command fail it: never are two commands active."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from tests.cli.hold.holders import TTL_SECONDS, Lease, Stage, open_stage, together, until
from tests.runtime.child_processes import parent
from tests.support.apiserver import Certificates, apiserver
from tests.support.proxy import Proxy, open_proxy

SHORT_SECONDS = 0.7
CUTS: dict[str, Callable[[Proxy], None]] = {
    "drop": lambda proxy: proxy.drop(),
    "drop-replies": lambda proxy: proxy.drop([proxy.to_client]),
    "freeze": lambda proxy: proxy.freeze(),
    "delay": lambda proxy: proxy.delay(5.0),
    "reset": lambda proxy: proxy.reset(),
    "refuse": lambda proxy: proxy.refuse(),
}


async def lost_and_taken_over(
    lease: Lease, via: str, fault: Callable[[], object], *flags: str, mode: str = "plain"
) -> None:
    """One holds, the other waits, the fault comes: the one stops in time, and then the other starts."""
    one = await lease.hold(*flags, via=via, mode=mode)
    await lease.active(1)
    other = await lease.hold()
    await other.until_told("held by")
    fault()
    await lease.active(2)
    assert await one.code() == 4
    assert ("stop" in [line.kind for line in lease.lines(1)]) == (mode != "deaf"), "it is asked to end first"
    assert "the command was stopped" in one.told
    lease.check_in_time(1)
    other.signal(signal.SIGTERM)
    assert await other.code() == 40
    lease.check(1, 2)


async def test_the_network(stage: Stage) -> None:
    async def cut_for_long(name: str, cut: Callable[[Proxy], None]) -> None:
        async with open_proxy(stage.server.address) as proxy:
            await lost_and_taken_over(stage.lease(name), proxy.url, partial(cut, proxy))

    async def cut_for_moments(*names: str) -> None:
        lease = stage.lease(f"moments-{names[0]}")
        async with open_proxy(stage.server.address) as proxy:
            holder = await lease.hold(via=proxy.url, ttl=2 * TTL_SECONDS)
            await lease.active(1)
            for name in names:
                CUTS[name](proxy)
                await trio.sleep(SHORT_SECONDS)
                await proxy.mend()
                await lease.renewed()
            holder.signal(signal.SIGTERM)
            assert await holder.code() == 40
            lease.check(1)

    await together(
        partial(cut_for_moments, "drop", "delay"),
        partial(cut_for_moments, "reset", "freeze"),
        partial(cut_for_moments, "refuse", "drop-replies"),
        *(partial(cut_for_long, name, cut) for name, cut in CUTS.items()),
    )


async def test_commands_that_do_not_want_to_end(stage: Stage) -> None:
    async def case(mode: str) -> None:
        async with open_proxy(stage.server.address) as proxy:
            await lost_and_taken_over(stage.lease(mode), proxy.url, proxy.reset, mode=mode)

    async def a_long_grace() -> None:
        async with open_proxy(stage.server.address) as proxy:
            lease = stage.lease("long-grace")
            await lost_and_taken_over(lease, proxy.url, proxy.reset, "--grace", "60s", mode="deaf")

    await together(a_long_grace, *(partial(case, mode) for mode in ("deaf", "forks", "daemonizes")))


async def test_holders_that_are_paused_or_killed(stage: Stage) -> None:
    async def paused_or_killed(name: str, mode: str, number: signal.Signals, code: int) -> None:
        lease = stage.lease(f"{name}-{mode}")
        one = await lease.hold(mode=mode)
        await lease.active(1)
        other = await lease.hold()
        await other.until_told("held by")
        one.signal(number)
        await lease.active(2)
        lease.check_in_time(1)
        one.signal(signal.SIGCONT)
        assert await one.code() == code
        other.signal(signal.SIGTERM)
        assert await other.code() == 40
        lease.check(1, 2)

    async def paused_for_a_moment() -> None:
        lease = stage.lease("paused-for-a-moment")
        holder = await lease.hold()
        await lease.active(1)
        holder.signal(signal.SIGSTOP)
        await trio.sleep(SHORT_SECONDS)
        holder.signal(signal.SIGCONT)
        await lease.renewed()
        holder.signal(signal.SIGTERM)
        assert await holder.code() == 40

    await together(
        paused_for_a_moment,
        *(partial(paused_or_killed, "paused", mode, signal.SIGSTOP, 4) for mode in ("plain", "daemonizes")),
        *(partial(paused_or_killed, "killed", mode, signal.SIGKILL, -9) for mode in ("plain", "daemonizes")),
    )


async def test_commands_that_are_paused(stage: Stage) -> None:
    async def stays_under_its_lease() -> None:
        lease = stage.lease("paused-command")
        holder = await lease.hold()
        await lease.active(1)
        lease.signal(signal.SIGSTOP)
        await trio.sleep(1.2 * TTL_SECONDS)
        assert not await stage.is_free(lease.name)
        lease.signal(signal.SIGCONT)
        await lease.renewed()
        holder.signal(signal.SIGTERM)
        assert await holder.code() == 40

    async def hears_that_it_must_end() -> None:
        lease = stage.lease("paused-command-told")
        holder = await lease.hold()
        await lease.active(1)
        lease.signal(signal.SIGSTOP)
        holder.signal(signal.SIGTERM)
        assert await holder.code() == 40

    async def ends_with_its_lease() -> None:
        async with open_proxy(stage.server.address) as proxy:
            lease = stage.lease("paused-command-lost")

            def fault() -> None:
                lease.signal(signal.SIGSTOP)
                proxy.reset()

            await lost_and_taken_over(lease, proxy.url, fault)

    await together(stays_under_its_lease, hears_that_it_must_end, ends_with_its_lease)


async def test_a_lease_is_left_to_expire_when_something_may_still_run(stage: Stage) -> None:
    lease = stage.lease("guard-killed")
    holder = await lease.hold()
    await lease.active(1)
    os.kill(parent(lease.lines()[-1].pid), signal.SIGKILL)
    assert await holder.code() == 1
    assert "what had left its group may still run; the lease is left to expire" in holder.told
    assert not await stage.is_free(lease.name)


async def test_a_state_file_that_cannot_be_written(stage: Stage) -> None:
    script = 'rm -r "$(dirname "$BERTH_STATE_FILE")"; sleep 1.5; exit 9'
    holder = await stage.start("no-state", "--ttl", f"{TTL_SECONDS}s", "--", "sh", "-c", script)
    assert await holder.code() == 9
    assert "state.json cannot be written" in holder.told


async def test_a_server_that_is_paused(certificates: Certificates, tmp_path: Path) -> None:
    with apiserver(certificates) as server:
        async with open_stage(server, tmp_path) as stage:
            lease = stage.lease("of-a-paused-server")
            one = await lease.hold()
            await lease.active(1)
            server.signal(signal.SIGSTOP)
            await trio.sleep(SHORT_SECONDS)
            server.signal(signal.SIGCONT)
            await lease.renewed()
            server.signal(signal.SIGSTOP)
            await until(lease.stopped)
            lease.check_in_time(1)
            server.signal(signal.SIGCONT)
            assert await one.code() == 4
            other = await lease.hold()
            await lease.active(2)
            other.signal(signal.SIGTERM)
            assert await other.code() == 40
            lease.check(1, 2)


async def test_a_server_that_is_killed_and_started_again(certificates: Certificates, tmp_path: Path) -> None:
    store = ("--store-backend", "sql", "--sql-driver", "sqlite", "--sql-dsn", str(tmp_path / "leases.db"))
    flags = (*store, "--auth-mode", "none")
    with apiserver(certificates, *flags) as server:
        async with open_proxy(server.address) as proxy, open_stage(server, tmp_path) as stage:
            lease = stage.lease("of-a-killed-server")
            holder = await lease.hold(via=proxy.url, ttl=2 * TTL_SECONDS)
            await lease.active(1)
            server.kill()
            with apiserver(certificates, *flags) as again:
                proxy.target = again.address
                await lease.renewed()
                holder.signal(signal.SIGTERM)
                assert await holder.code() == 40
            lease.check(1)
