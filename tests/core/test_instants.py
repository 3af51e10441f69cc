from berth.core.instants import rfc3339


def test_instants_are_written_with_as_many_digits_as_they_need() -> None:
    assert rfc3339(1_700_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert rfc3339(1_700_000_000_120_000) == "2023-11-14T22:13:20.12Z"
    assert rfc3339(1_700_000_000_000_001) == "2023-11-14T22:13:20.000001Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999Z"


def test_no_instant_is_year_one() -> None:
    assert rfc3339(None) == rfc3339(0) == "0001-01-01T00:00:00Z"
