import pytest

from berth.config.duration import TooLong, format_duration, parse_duration

BOTH_WAYS = [
    ("0s", 0.0),
    ("1ns", 1e-9),
    ("1.5us", 1.5e-6),
    ("500ms", 0.5),
    ("300ms", 0.3),
    ("1.5s", 1.5),
    ("30s", 30.0),
    ("1m30s", 90.0),
    ("5m", 300.0),
    ("24h", 86400.0),
    ("1h1m1.001s", 3661.001),
]

ONE_WAY = [
    ("0", 0.0),
    ("1.5h", 5400.0),
    (".5s", 0.5),
    ("5.s", 5.0),
    ("7µs", 7e-6),
    ("7μs", 7e-6),
    ("90s", 90.0),
    ("1s1s", 2.0),
]

REFUSED = [
    "",
    "5",
    "s",
    ".s",
    "-1s",
    "+1s",
    "1 s",
    " 1s",
    "1s ",
    "1d",
    "1S",
    "1e3s",
    "٣s",
    "1h-5m",
    "infs",
    "1s" * 40,
    "9" * 500 + "s",
]


@pytest.mark.parametrize(("text", "seconds"), BOTH_WAYS + ONE_WAY)
def test_reads_what_go_writes(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), BOTH_WAYS)
def test_writes_the_shortest_text(text: str, seconds: float):
    assert format_duration(seconds) == text


@pytest.mark.parametrize("text", REFUSED)
def test_refuses_what_is_no_length_of_time(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_writes_no_negative_duration():
    with pytest.raises(ValueError, match="not negative"):
        format_duration(-1.0)


def test_what_is_too_long_is_told_apart():
    with pytest.raises(TooLong):
        parse_duration("9999999999s")
