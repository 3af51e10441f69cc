from berth.runtime.clock import ManualClock, SystemClock, boot_id


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
