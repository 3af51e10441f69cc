from itertools import islice
from random import Random

from berth.runtime.retry import backoff_seconds


class Highest(Random):
    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        return b


def test_the_bound_doubles_up_to_the_cap() -> None:
    pauses = backoff_seconds(Highest(), first_seconds=0.1, cap_seconds=0.5)
    assert list(islice(pauses, 5)) == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_the_first_pause_is_capped_too() -> None:
    assert next(backoff_seconds(Highest(), first_seconds=9, cap_seconds=1)) == 1


def test_the_jitter_is_full_and_comes_from_the_given_source() -> None:
    first, again = (
        list(islice(backoff_seconds(Random(1), first_seconds=1, cap_seconds=1), 200)) for _ in range(2)
    )
    assert first == again
    assert min(first) < 0.1
    assert max(first) > 0.9
