"""How many seeds are run, or which one: `pytest tests/sim --seeds N`, `pytest tests/sim --seed N`."""

import pytest

from tests.sim.seeds import DEFAULT, Reached, seeds_of


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=DEFAULT, help="how many seeds to simulate")
    group.addoption("--seed", type=int, help="the one seed to simulate, with all its events if it fails")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        # Without tests/sim on the command line, pytest meets the options too late to know them.
        count: int = metafunc.config.getoption("--seeds", DEFAULT) or DEFAULT
        only: int | None = metafunc.config.getoption("--seed", None)
        part: int = getattr(metafunc.module, "PART")  # noqa: B009 - a test module has one
        metafunc.parametrize("seed", seeds_of(part, count, only))


@pytest.fixture(scope="module")
def reached() -> Reached:
    return Reached()


@pytest.fixture
def whole_log(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--seed", None) is not None
