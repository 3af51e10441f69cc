"""The checker: whether a history of concurrent operations can be put in an order that a model allows.

Wing and Gong's search with Lowe's memory: depth first, and no set of operations is tried twice in the same
state. An operation may be next while every other that is still open began before it was over. One of unknown
outcome may come at any time after its invocation, and need not come. Owns nothing of leases: the model says
what may follow a state. Promises an end: after so many steps the verdict is `unknown`, which is no success.

Of a history that is wrong it tells the longest beginning that could be put in order, and what could not
follow.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from math import inf
from typing import Any, Literal, NamedTuple, Protocol

from tests.histories.operations import Operation

STEPS_MAX = 500_000
SHOWN = 8


class Model(Protocol):
    """What may happen, one operation after the other."""

    @property
    def initial(self) -> Any: ...

    def after(self, state: Any, operation: Operation, until_us: float, /) -> Iterable[Any]:
        """Every state that may follow when the operation takes effect after its invocation and not after
        `until_us`. One without a reply may have had any; one that changes nothing is as good as none.
        """
        ...

    def is_reading(self, operation: Operation, /) -> bool:
        """Whether it leaves everything as it is, and at most tells more of it. False is always right."""
        ...

    def is_too_late(self, state: Any, operation: Operation, /) -> bool:
        """Whether the operation can come neither now nor after anything else. False is always right."""
        ...

    def text(self, state: Any, /) -> str: ...


class Verdict(NamedTuple):
    """`text` says what is wrong, for people."""

    answer: Literal["right", "wrong", "unknown"]
    steps: int
    text: str = ""


class _Place(NamedTuple):
    """A place in the search: what has been put in order, and the state after it.

    Of the operations with a reply, in the order of their invocations, all before `start` and those in the
    bits of `ahead` from there on; of those without, those in the bits of `doubtful`.
    """

    start: int
    ahead: int
    doubtful: int
    state: Hashable
    order: "_Link | None"

    @property
    def identity(self) -> Hashable:
        return self[:4]

    @property
    def done(self) -> int:
        return self.start + self.ahead.bit_count()

    def then(self, at: int, operation: Operation, state: Hashable) -> "_Place":
        """The place after the operation, which is the one `at` of those with a reply."""
        start, ahead = self.start, self.ahead | 1 << (at - self.start)
        while ahead & 1:
            start, ahead = start + 1, ahead >> 1
        return _Place(start, ahead, self.doubtful, state, _Link(operation, self.order))


class _Link(NamedTuple):
    operation: Operation
    before: "_Link | None"


class _Search:
    """Sparingly, one of unknown outcome is put in only where nothing else can be next: that finds an order
    soon or never, and does not find every order.
    """

    def __init__(self, operations: Iterable[Operation], model: Model, *, sparingly: bool) -> None:
        in_time = sorted(operations, key=lambda each: each.invoked_us)
        self.known = [each for each in in_time if each.returned_us is not None]
        self.doubtful = [each for each in in_time if each.returned_us is None]
        self.model = model
        self.steps = 0
        self._sparingly = sparingly
        self._best = _Place(0, 0, 0, model.initial, None)

    def candidates(self, place: _Place) -> tuple[float, list[tuple[int, Operation]]]:
        """The first return among what is open, and what may come before it: those that return first first."""
        first = inf
        found: list[tuple[int, Operation]] = []
        for at in range(place.start, len(self.known)):
            operation = self.known[at]
            if operation.invoked_us > first:
                break
            if not place.ahead >> (at - place.start) & 1:
                assert operation.returned_us is not None
                first = min(first, operation.returned_us)
                found.append((at, operation))
        found = [(at, each) for at, each in found if each.invoked_us <= first]
        return first, sorted(found, key=lambda each: each[1].returned_us or 0)

    def next_places(self, place: _Place) -> Iterator[_Place]:
        first, candidates = self.candidates(place)
        if any(self.model.is_too_late(place.state, operation) for _, operation in candidates):
            return
        for at, operation in candidates:
            # What reads nothing new may as well come now: nothing that is possible later needs it to wait.
            if self.model.is_reading(operation) and place.state in self._states(place, operation, first):
                yield place.then(at, operation, place.state)
                return
        stuck = True
        for at, operation in candidates:
            for state in self._states(place, operation, first):
                stuck = False
                yield place.then(at, operation, state)
        if self._sparingly and not stuck:
            return
        for at, operation in enumerate(self.doubtful):
            if place.doubtful >> at & 1 or operation.invoked_us > first:
                continue
            for state in self._states(place, operation, first):
                if state != place.state:
                    doubtful = place.doubtful | 1 << at
                    yield _Place(place.start, place.ahead, doubtful, state, _Link(operation, place.order))

    def _states(self, place: _Place, operation: Operation, first: float) -> Iterable[Hashable]:
        self.steps += 1
        return self.model.after(place.state, operation, first)

    def run(self, steps_max: int) -> Verdict:
        seen = {self._best.identity}
        ways = [self.next_places(self._best)]
        while ways and self.steps <= steps_max:
            place = next(ways[-1], None)
            if place is None:
                ways.pop()
            elif place.identity not in seen:
                if place.start == len(self.known):
                    return Verdict("right", self.steps)
                seen.add(place.identity)
                self._best = max(self._best, place, key=lambda each: each.done)
                ways.append(self.next_places(place))
        if ways:
            return Verdict("unknown", self.steps, f"not decided in {steps_max} steps; {self._story()}")
        return Verdict("wrong", self.steps, self._story())

    def _story(self) -> str:
        order: list[Operation] = []
        link = self._best.order
        while link is not None:
            order.append(link.operation)
            link = link.before
        left_out = len(order) - SHOWN
        lines = [f"{self._best.done} of {len(self.known)} operations could be put in order:"]
        lines += [f"  … {left_out} more"] * (left_out > 0)
        lines += [f"  {each}" for each in reversed(order[:SHOWN])]
        lines += [f"then the lease is {self.model.text(self._best.state)},", "and none of these can be next:"]
        lines += [f"  {each}" for _, each in self.candidates(self._best)[1]]
        return "\n".join(lines)


def check(operations: Sequence[Operation], model: Model, *, steps_max: int = STEPS_MAX) -> Verdict:
    """Judge the history of one object."""
    if all(each.returned_us is None for each in operations):
        return Verdict("right", 0)
    quick = _Search(operations, model, sparingly=True).run(steps_max)
    if quick.answer == "right" or all(each.returned_us is not None for each in operations):
        return quick
    return _Search(operations, model, sparingly=False).run(steps_max)
