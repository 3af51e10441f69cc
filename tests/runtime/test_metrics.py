import pytest

from berth.runtime.metrics import CONTENT_TYPE, Metrics


def make() -> Metrics:
    return Metrics(version="1.2.3", commit="abc", python="3.11.2")


def test_the_build_and_the_process_are_told() -> None:
    text = make().render().decode()
    assert 'berth_build_info{commit="abc",python="3.11.2",version="1.2.3"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert "python_gc_collections_total" in text
    assert CONTENT_TYPE.startswith("text/plain")


def test_instruments_are_rendered() -> None:
    metrics = make()
    metrics.counter("berth_things_total", "Things.", ("kind",)).labels("a").inc(2)
    metrics.gauge("berth_level", "Level.").set(3)
    metrics.histogram("berth_took_seconds", "Took.", buckets=(1, 2)).observe(1.5)
    text = metrics.render().decode()
    assert 'berth_things_total{kind="a"} 2.0' in text
    assert "berth_level 3.0" in text
    assert 'berth_took_seconds_bucket{le="1.0"} 0.0' in text
    assert 'berth_took_seconds_bucket{le="2.0"} 1.0' in text


def test_two_registries_know_nothing_of_each_other() -> None:
    first, second = make(), make()
    first.gauge("berth_mine", "Mine.")
    assert b"berth_mine" not in second.render()


def test_a_name_is_made_once() -> None:
    metrics = make()
    metrics.gauge("berth_one", "One.")
    with pytest.raises(ValueError, match="berth_one"):
        metrics.gauge("berth_one", "One.")
