"""Renewals: many at once, which is nearly all that a server is ever asked.

Owns the short way for the plain case: the one tenure of a lease, by ttl, renewed by its holder in time.
Promises exactly what `decide` comes to there, and leaves every other case to it. It goes through columns and
makes of each renewal only what must be kept, because each object more is a twentieth of what it costs.
"""

from collections.abc import Sequence
from itertools import repeat

from berth.core.records import Record, Tenure
from berth.core.requests import Renew, Renewed


def decide_renewals(
    requests: Sequence[Renew], records: Sequence[Record | None], sole_idles_us: Sequence[int]
) -> tuple[list[Record], list[Tenure | None]]:
    """The records to write, and the tenure that each request renews once they have won; None: ask `decide`.

    `sole_idles_us` has how long each lease's only tenure, by ttl, has been idle; negative where there is no
    such.
    """
    writes: list[Record] = []
    renewed: list[Tenure | None] = list(repeat(None, len(requests)))
    for at, (request, record, idle_us) in enumerate(zip(requests, records, sole_idles_us, strict=True)):
        if record is None or idle_us < 0:
            continue
        (tenure,) = record.tenures
        holder, token = request.holder, request.token
        left_us = tenure.ttl_us - idle_us
        if token != tenure.token or holder != tenure.holder or left_us < 0:
            continue
        ttl_us = request.ttl_us
        if ttl_us < left_us:
            # Its expiry never moves back: the reply that shortens it may be lost.
            ttl_us = left_us
        renewed[at] = kept = Tenure(holder, token, tenure.acquired_at_us, ttl_us)
        writes.append(
            Record(
                record.key,
                record.version + 1,
                record.token,
                (kept,),
                record.semantics,
                record.max_holders,
                record.lock_delay_us,
                record.ended,
            )
        )
    return writes, renewed


def told(tenure: Tenure, at_us: int) -> Renewed:
    """What the holder is told of a tenure that was renewed at `at_us`."""
    return Renewed(tenure.holder, tenure.token, tenure.acquired_at_us, at_us + tenure.ttl_us, tenure.ttl_us)
