"""Percentiles by nearest rank, against all samples sorted."""

from random import Random

import pytest

from berth.cli.bench.latencies import Latencies


def measured(samples: list[int]) -> Latencies:
    latencies = Latencies()
    for sample in samples:
        latencies.add(sample)
    return latencies


def test_nothing():
    assert (measured([]).percentile_us(990), measured([]).max_us) == (0, 0)


def test_nearest_rank_of_a_few():
    latencies = measured([40, 10, 30, 20])
    assert [latencies.percentile_us(at) for at in (1, 250, 251, 500, 750, 751, 999, 1000)] == [
        *(10, 10, 20, 20, 30, 40, 40, 40)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_percentile_is_at_most_a_thousandth_too_long(seed: int):
    rng = Random(seed)
    samples = [round(10 ** rng.uniform(0, 8)) for _ in range(5_000)]
    latencies = measured(samples)
    ordered = sorted(samples)
    for at in (1, 100, 500, 950, 990, 999, 1000):
        exact = ordered[-(-len(ordered) * at // 1000) - 1]
        assert exact <= latencies.percentile_us(at) <= exact * 1.001
    assert latencies.max_us == ordered[-1]


def test_many_of_one_kind_and_memory_that_does_not_grow():
    latencies = Latencies()
    for duration_us in range(1_000_000, 1_100_000):
        latencies.add(duration_us, 10)
    assert latencies.count == 1_000_000
    assert latencies.percentile_us(500) == pytest.approx(1_050_000, rel=0.001)
    assert len(latencies._buckets) < 300
