from berth.runtime.clock import ManualClock, SystemClock, boot_id, rfc3339


def test_instants_are_written_with_as_many_digits_as_they_need() -> None:
    assert rfc3339(1_700_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert rfc3339(1_700_000_000_120_000) == "2023-11-14T22:13:20.12Z"
    assert rfc3339(1_700_000_000_000_001) == "2023-11-14T22:13:20.000001Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999Z"


def test_no_instant_is_year_one() -> None:
    assert rfc3339(None) == rfc3339(0) == "0001-01-01T00:00:00Z"


def test_the_machines_clocks_are_in_microseconds_and_go_forward() -> None:
    clock = SystemClock()
    readings = [(clock.boot_us(), clock.raw_us(), clock.wall_us()) for _ in range(2)]
    assert readings[0] <= readings[1]
    assert 1_700_000_000_000_000 < readings[0][2] < 4_000_000_000_000_000
    assert clock.boot_us() >= clock.raw_us() - 1_000_000


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(boot_us=5, wall_us=7)
    clock.advance(1.5)
    assert (clock.boot_us(), clock.raw_us(), clock.wall_us()) == (1_500_005, 1_500_005, 1_500_007)
    clock.step_wall(-1)
    assert (clock.boot_us(), clock.raw_us(), clock.wall_us()) == (1_500_005, 1_500_005, 500_007)


def test_the_boot_has_one_name() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36
