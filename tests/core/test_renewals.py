"""Many renewals at once come to what each comes to alone, or are left to that."""

from hypothesis import given
from hypothesis import strategies as st

from berth.core.decide import decide
from berth.core.records import Observed
from berth.core.renewals import decide_renewals, told
from berth.core.requests import Renew
from tests.core.readings import SHARED, TTL, held, lease, never, session, under

LIVE, OVER = session("s", "a"), session("s", "a", idle=TTL + 1)


def sole_idle(observed: Observed) -> int:
    """As a store tells it."""
    record = observed.record
    if record is None or len(record.tenures) != 1 or record.tenures[0].session is not None:
        return -1
    return observed.idle_us[0]


holds = st.builds(
    held, st.sampled_from("ab"), st.integers(1, 3), st.integers(0, TTL + 2), st.sampled_from((1, TTL))
)
readings = st.one_of(
    st.just(never()),
    st.just(lease()),
    st.builds(lease, holds, lock_delay_us=st.sampled_from((0, 5))),
    st.builds(lambda hold: lease(hold, semantics=SHARED, max_holders=2), holds),
    st.just(lease(held("a", 1), held("b", 2), semantics=SHARED, max_holders=2)),
    st.sampled_from((LIVE, OVER)).map(lambda seen: lease(under("s", "a"), sessions=(seen,))),
)
requests = st.builds(Renew, st.sampled_from("ab"), st.integers(1, 3), st.sampled_from((1, TTL, 3 * TTL)))


@given(st.lists(st.tuples(readings, requests), max_size=8))
def test_many_come_to_what_each_comes_to(asked: list[tuple[Observed, Renew]]) -> None:
    writes, renewed = decide_renewals(
        [request for _, request in asked],
        [observed.record for observed, _ in asked],
        [sole_idle(observed) for observed, _ in asked],
    )
    left = iter(writes)
    for (observed, request), kept in zip(asked, renewed, strict=True):
        alone = decide(observed, request)
        if kept is not None:
            assert next(left) == alone.write
            assert told(kept, observed.at_us) == alone.outcome
        else:
            assert alone.write is None or sole_idle(observed) < 0, "what is plain is not left to others"
    assert list(left) == []
