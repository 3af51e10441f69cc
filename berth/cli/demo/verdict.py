"""The verdict: whether what was seen is what berth promises. Pure: ledger and instants in, findings out.

A job counts as active from its first line to its last, and for one beat more unless it said itself that it
ended: it was killed, and may have acted until just before its next line.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from berth.cli.demo.ledger import BEAT_SECONDS, Entry, Run, runs_of
from berth.runtime.clock import MICROSECONDS

TAKE_OVER_SECONDS = 3.0
"""How long after its lease's expiry a job may take to run again: to notice, to acquire, to start."""

HAND_OVER_SECONDS = 3.0
"""How long after the end of one job the next may take, with a release in between."""


class Measured(NamedTuple):
    """What happened. `expires_us`: when, at the earliest, each lease of the killed cluster could expire, as
    the server told after the kill at `killed_us`; `asked_us`: when a cluster was asked to end.
    """

    ttl_seconds: int
    entries: Sequence[Entry]
    killed_us: int
    expires_us: Mapping[str, int]
    asked_us: int


class Finding(NamedTuple):
    ok: bool
    text: str


def judge(measured: Measured) -> list[Finding]:
    """A finding for each thing that was to be shown, the bad ones among them."""
    runs = runs_of(measured.entries)
    return [
        _take_over(measured, runs),
        _hand_over(measured, runs),
        _one_at_a_time(measured, runs),
        _growing_tokens(runs),
    ]


def _take_over(measured: Measured, runs: Sequence[Run]) -> Finding:
    began: dict[str, int] = {}
    for run in runs:
        if run.lease in measured.expires_us and run.begun_us > measured.killed_us:
            began.setdefault(run.lease, run.begun_us)
    missing = measured.expires_us.keys() - began
    if missing or not began:
        return Finding(False, f"After the kill nobody ran {', '.join(missing) or 'anything'} again.")
    waits = [begun_us - measured.killed_us for begun_us in began.values()]
    late = [begun_us - measured.expires_us[lease] for lease, begun_us in began.items()]
    return Finding(
        min(late) > 0 and max(late) <= TAKE_OVER_SECONDS * MICROSECONDS,
        f"After the kill the jobs ran again within {_span(waits)}: {_span(late)} after their leases expired "
        f"(ttl {measured.ttl_seconds} s; allowed: never before, at most {TAKE_OVER_SECONDS:g} s after).",
    )


def _hand_over(measured: Measured, runs: Sequence[Run]) -> Finding:
    gaps: list[int] = []
    for _, of_lease in groupby(sorted(runs, key=attrgetter("lease", "begun_us")), attrgetter("lease")):
        for old, new in pairwise(of_lease):
            if old.ended and old.last_us > measured.asked_us >= old.begun_us:
                gaps.append(new.begun_us - old.last_us)
    if not gaps:
        return Finding(False, "No job was handed over in order.")
    return Finding(
        min(gaps) >= 0 and max(gaps) <= HAND_OVER_SECONDS * MICROSECONDS,
        f"When a cluster gave up in order, the jobs ran again within {_span(gaps)} "
        f"(allowed: {HAND_OVER_SECONDS:g} s), without waiting for the ttl.",
    )


def _one_at_a_time(measured: Measured, runs: Sequence[Run]) -> Finding:
    overlaps = [
        f"{one.lease}: processes {one.pid} and {two.pid}"
        for one, two in combinations(runs, 2)
        if one.lease == two.lease and one.begun_us <= _end_us(two) and two.begun_us <= _end_us(one)
    ]
    told = f"Moments with two active jobs of one lease: {len(overlaps)}"
    if overlaps:
        return Finding(False, f"{told} ({'; '.join(overlaps)}).")
    return Finding(True, f"{told}, in {len(measured.entries)} writes by {len(runs)} jobs.")


def _growing_tokens(runs: Sequence[Run]) -> Finding:
    tokens = {lease: list(found) for lease, found in _tokens(runs)}
    told = ", ".join(f"{lease} {' '.join(map(str, found))}" for lease, found in tokens.items())
    fallen = [lease for lease, found in tokens.items() if any(old >= new for old, new in pairwise(found))]
    if fallen:
        return Finding(
            False, f"The fencing token did not grow with each holder of {', '.join(fallen)}: {told}."
        )
    return Finding(True, f"The fencing token grew with every new holder: {told}.")


def _tokens(runs: Sequence[Run]) -> Iterator[tuple[str, list[int]]]:
    """Each lease with the tokens of its jobs, in the order in which these began."""
    in_order = sorted(runs, key=attrgetter("lease", "begun_us"))
    for lease, of_lease in groupby(in_order, attrgetter("lease")):
        yield lease, [run.token for run in of_lease]


def _end_us(run: Run) -> int:
    return run.last_us if run.ended else run.last_us + int(BEAT_SECONDS * MICROSECONDS)


def _span(durations_us: Sequence[int]) -> str:
    shortest, longest = (f"{found / MICROSECONDS:.1f}" for found in (min(durations_us), max(durations_us)))
    return f"{longest} s" if shortest == longest else f"{shortest} to {longest} s"
