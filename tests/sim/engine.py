"""Engine: one deterministic run of Trio in simulated time, and processes that can be stopped in it.

Owns every private name of Trio that the simulation needs, and the randomness of the library modules that ask
the system for it. Promises that a run is the same each time for one seed, and that a stopped process makes no
step until it goes on: what happens to its tasks meanwhile, they find when it does. Does not know what runs.
"""

import gc
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from math import inf
from random import Random
from typing import Any, TypeVar

import trio
from trio._core import _run
from trio.testing import MockClock

T = TypeVar("T")

_OWNER: ContextVar["Process | None"] = ContextVar("owner", default=None)


def run(seed: str, main: Callable[["Gate"], Awaitable[T]]) -> T:
    """What `main` makes of a fresh simulated time, which jumps ahead whenever all tasks wait."""
    gate, clock = Gate(), MockClock(autojump_threshold=0)
    clock._autojump = partial(_jump, clock._autojump)
    try:
        with _determined(seed):
            return trio.run(main, gate, clock=clock, instruments=[gate])
    except trio.TrioInternalError as error:
        if isinstance(error.__cause__, Deadlock):
            raise error.__cause__ from None
        raise


class Deadlock(Exception):
    """All tasks wait, and none of them for a time: this run would never end. The text names the tasks."""


def _jump(jump: Callable[[], None]) -> None:
    if trio.lowlevel.current_statistics().seconds_to_next_deadline == inf:
        raise Deadlock("; ".join(_waiting(trio.lowlevel.current_root_task())))
    jump()


def _waiting(task: trio.lowlevel.Task | None) -> Iterator[str]:
    """The innermost tasks, each with the functions that it waits in."""
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks] if task else []
    for child in children:
        yield from _waiting(child)
    if task is not None and not children:
        functions = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
        yield f"{task.name.rpartition('.')[2]} in {' > '.join(functions[-6:-1])}"


@contextmanager
def _determined(seed: str) -> Iterator[None]:
    """The scheduler and `secrets` draw from the seed; a late garbage collection runs nothing in between."""
    scheduler: Random = _run._r
    state, allowed = scheduler.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    token_hex, randbelow = secrets.token_hex, secrets.randbelow
    drawn = Random(f"secrets {seed}")
    collecting = gc.isenabled()
    try:
        gc.disable()
        scheduler.seed(f"scheduler {seed}")
        setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010 - declared Final
        secrets.token_hex = lambda nbytes=16: drawn.randbytes(nbytes or 16).hex()
        secrets.randbelow = drawn.randrange
        yield
    finally:
        secrets.token_hex, secrets.randbelow = token_hex, randbelow
        setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", allowed)  # noqa: B010 - declared Final
        scheduler.setstate(state)
        if collecting:
            gc.enable()


class Gate(trio.abc.Instrument):
    """Holds back the tasks of processes that are stopped."""

    def __init__(self) -> None:
        self._stopped: set[Process] = set()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if self._stopped and (owner := _owner(task)) in self._stopped:
            assert owner is not None
            taken = _runner().runq.pop()
            assert taken is task, "a task is told of as it is queued"
            owner.held.append(task)

    def shut(self, process: "Process") -> None:
        self._stopped.add(process)
        queue = _runner().runq
        waiting = list(queue)
        queue.clear()
        for task in waiting:
            (process.held if _owner(task) is process else queue).append(task)

    def open(self, process: "Process") -> None:
        self._stopped.discard(process)
        _runner().runq.extend(process.held)
        process.held.clear()


class Process:
    """Tasks that run, stand still and die together."""

    def __init__(self, name: str, gate: Gate) -> None:
        self.name = name
        self.dead = False
        self.stopped = False
        self.held: list[trio.lowlevel.Task] = []
        self._gate = gate
        self._timers: list[tuple[trio.CancelScope, float]] = []
        self._context = copy_context()
        self._context.run(_OWNER.set, self)

    def spawn(self, nursery: trio.Nursery, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Start a task of this process; the tasks that it starts are so as well."""
        self._context.copy().run(nursery.start_soon, function, *args)

    def pause(self) -> None:
        """As by SIGSTOP: its timers go on."""
        assert not self.stopped
        self.stopped = True
        self._gate.shut(self)

    def suspend(self) -> None:
        """As with its machine: Trio's clock stands still for it."""
        self.pause()
        now = trio.current_time()
        for deadline, _, scope in list(_runner().deadlines._heap):
            if scope._registered_deadline == deadline and self._owns(scope):
                self._timers.append((scope, deadline - now))
                scope.deadline = float("inf")

    def resume(self) -> None:
        if self.dead:
            return
        self.stopped = False
        now = trio.current_time()
        for scope, left_seconds in self._timers:
            scope.deadline = now + left_seconds
        self._timers.clear()
        self._gate.open(self)

    def kill(self) -> None:
        """As by SIGKILL: it makes no further step, and nothing is cleaned up."""
        self.dead = True
        if not self.stopped:
            self.pause()

    def unwind(self) -> None:
        """After the run: let the tasks of a dead process go, so that the run can end."""
        if self.stopped:
            self.dead = True
            self._timers.clear()
            self._gate.open(self)

    def _owns(self, scope: trio.CancelScope) -> bool:
        pending = [scope._cancel_status]
        while pending:
            status = pending.pop()
            if status is None:
                continue
            for task in status._tasks:
                return _owner(task) is self
            pending.extend(status._children)
        return False


def current_process() -> Process | None:
    """Whose task it is that runs."""
    return _OWNER.get()


def _runner() -> _run.Runner:
    runner = getattr(_run.GLOBAL_RUN_CONTEXT, "runner")  # noqa: B009 - a thread-local that is typed as empty
    assert isinstance(runner, _run.Runner)
    return runner


def _owner(task: trio.lowlevel.Task) -> Process | None:
    return task.context.get(_OWNER)
