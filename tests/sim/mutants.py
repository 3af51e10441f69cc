"""Mutants: the rules of lease safety, broken one by one, and the scene in which each breach must show.

A mutant replaces a real function by a broken copy of it, or takes away what an operator has to provide. It
says which property breaks, in the word that the ledger's verdict begins with.
"""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from random import Random
from types import ModuleType
from typing import Any

import pytest
import trio

from berth.client import keeper
from berth.client.held import Deadline, Held
from berth.client.keeper import Pulse
from berth.core import decide, holding, standing
from berth.core.holding import Holding, Reading
from berth.service import renewing, rounds
from berth.store import memory
from berth.store.marks import Instant, StoreTime
from tests.sim import scenes
from tests.sim.scenes import Scene

hold_module = import_module("berth.client.hold")  # the package has a function of this name
session_module = import_module("berth.client.hold_session")


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken by `apply`, or by the choices of the plan that are `given`."""

    name: str
    breaks: str
    scene: Scene
    apply: Callable[[pytest.MonkeyPatch], None] = lambda _: None
    given: dict[str, Any] = field(default_factory=dict)
    scene_given: dict[str, Any] = field(default_factory=dict)
    """What the scene needs besides, with or without the breach."""


def broken(module: ModuleType, function: str, rule: str, breach: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Puts `breach` in the place of `rule` in a copy of the function."""

    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        source = inspect.getsource(getattr(module, function))
        assert source.count(rule) == 1, f"{function} holds {rule!r} once"
        space = dict(vars(module))
        exec(compile(source.replace(rule, breach), function, "exec"), space)
        real = getattr(module, function)
        for user in (module, rounds, renewing):
            if getattr(user, function, None) is real:
                monkeypatch.setattr(user, function, space[function])

    return apply


def _from_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(held: Holding, _: Reading, now: Reading) -> Holding:
        return holding.renewed(held, now, now)

    def granted_late(terms: Any, token: int, _: Reading, now: Callable[[], Reading]) -> Held:
        return make(terms, token, now(), now)

    make = hold_module._held
    monkeypatch.setattr(keeper, "renewed", late)
    monkeypatch.setattr(hold_module, "_held", granted_late)


def _release_first(monkeypatch: pytest.MonkeyPatch) -> None:
    real = keeper.kept

    @asynccontextmanager
    async def kept(held: Deadline, pulse: Pulse, *, rng: Random, on_danger: Any) -> AsyncGenerator[None]:
        async def give_up_at_once() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(1, shield=True):
                    await pulse.give_up()

        async with trio.open_nursery() as eager:
            eager.start_soon(give_up_at_once)
            async with real(held, pulse, rng=rng, on_danger=on_danger):
                yield
            eager.cancel_scope.cancel()

    monkeypatch.setattr(hold_module, "kept", kept)
    monkeypatch.setattr(session_module, "kept", kept)


def _by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Any) -> Instant:
        wall_us = self._clock.wall_us()
        return Instant(wall_us, wall_us)

    monkeypatch.setattr(StoreTime, "read", read)


def _without_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "lifetime_us", lambda ttl_us: ttl_us)
    monkeypatch.setattr(hold_module, "lifetime_us", lambda ttl_us: ttl_us)


def _answered_from_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(decide, "_keep", "Decision(write, _acq", "Decision(None, _acq")(monkeypatch)
    broken(decide, "decide_renewal", "Decision(write, told)", "Decision(None, told)")(monkeypatch)


def _without_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FLOOR_SINCE_US", 2**62)


def _tokens_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(decide, "_take", "(record.token if record else 0)", "(record.token if in_the_way else 0)")(
        monkeypatch
    )
    monkeypatch.setattr(decide, "check_record", lambda record, before: None)


MUTANTS = [
    Mutant("deadline from the reply's time", "S1", scenes.cut_off_after_a_slow_reply, _from_the_reply),
    Mutant("no drift factor", "S1", scenes.cut_off_with_slow_clocks, _without_drift),
    Mutant("a retry answered without a write", "S4", scenes.hold_for_a_while, _answered_from_a_read),
    Mutant("release before stop", "S1", scenes.called_off, _release_first),
    Mutant(
        "memory restart without quarantine",
        "S1",
        scenes.restarted_server,
        given={"store": "memory", "quarantine": False},
        scene_given={"store": "memory"},
    ),
    Mutant(
        "release ignores the token",
        "cause",
        scenes.late_release,
        broken(
            decide,
            "_release",
            "(life.tenure.holder, life.tenure.token) == (request.holder, request.token)",
            "life.tenure.holder == request.holder",
        ),
    ),
    Mutant(
        "renew ignores the token",
        "token",
        scenes.late_renewal,
        broken(
            decide,
            "decide_renewal",
            "token != request.token or holder != request.holder",
            "holder != request.holder",
        ),
    ),
    Mutant("store time steps with the wall clock", "cause", scenes.stepped_wall_clock, _by_the_wall_clock),
    Mutant("tokens start again when a lease was free", "S2", scenes.turn_by_turn, _tokens_start_again),
    Mutant(
        "a store that forgets, taken for durable",
        "S2",
        scenes.forgetful_server,
        _without_a_floor,
        given={"store": "memory", "forgets": True},
        scene_given={"store": "memory"},
    ),
    Mutant(
        "a session is taken over without ending it first",
        "cause",
        scenes.cut_off_session,
        broken(standing, "_life_by_session", 'lock_delay_us, "doubtful")', 'lock_delay_us, "over")'),
    ),
    Mutant(
        "an expiry that moves back",
        "S1",
        scenes.shorter_renewal,
        broken(
            decide,
            "decide_renewal",
            "request.ttl_us if request.ttl_us > left_us else left_us",
            "request.ttl_us",
        ),
    ),
    Mutant(
        "time in suspend does not count",
        "S1",
        scenes.suspended_machine,
        broken(
            holding,
            "elapsed_us",
            "max(now.boot_us - since.boot_us, now.raw_us - since.raw_us, now.wall_us - since.wall_us)",
            "now.raw_us - since.raw_us",
        ),
    ),
    Mutant(
        "an unknown outcome counts as a renewal",
        "S1",
        scenes.silent_server,
        broken(keeper, "beat", "    if alive:", "    if alive is not False:"),
    ),
]
MUTANTS_BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
