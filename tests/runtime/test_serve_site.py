"""How many connections fit under the limit of open files, each time in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from berth.runtime.serve_site import connections_that_fit
soft, hard, wanted = (int(text) for text in sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(connections_that_fit(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "told"),
    [
        pytest.param(4096, 4096, "1000 4096", id="room enough"),
        pytest.param(256, 4096, "1000 1064", id="the limit can be raised"),
        pytest.param(256, 512, "448 512", id="as far as it goes"),
        pytest.param(48, 48, "1 48", id="hardly any room"),
    ],
)
def test_connections_fit_under_the_limit_of_open_files(soft: int, hard: int, told: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard), "1000"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout.strip() == told
