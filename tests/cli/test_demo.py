"""The demo as its user sees it, and its verdict over ledgers that could have been."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from berth.cli.demo.ledger import BEAT, BEGIN, END, UP, Entry, Reader, append, runs_of
from berth.cli.demo.verdict import Finding, Measured, judge

SECOND = 1_000_000
SHORT = (sys.executable, "-m", "berth", "demo", "--ttl=2")
LIMIT_SECONDS = 120


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment whose temporary files are this test's own."""
    return {**os.environ, "TMPDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}


def left_over(folder: Path) -> list[str]:
    """What still runs with a file below the folder on its command line, and the files."""
    running: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if str(folder) in line:
            running.append(line)
    return running + [str(path) for path in folder.iterdir()]


class TestFromOutside:
    def test_it_ends_by_itself_with_what_it_measured(self, surroundings: dict[str, str], tmp_path: Path):
        ran = subprocess.run(
            SHORT,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert left_over(tmp_path) == []
        assert all(len(line) <= 80 for line in ran.stdout.splitlines())
        assert ran.stdout.isascii()
        told = ran.stdout[ran.stdout.index("Measured:") :]
        assert len(re.findall(r"^ok ", told, re.MULTILINE)) == 4
        assert "two active jobs of one lease: 0, in" in told
        assert "payments 1 2 3" in told

    def test_a_job_that_runs_beside_another_is_a_failure(self, surroundings: dict[str, str], tmp_path: Path):
        with subprocess.Popen(SHORT, env=surroundings, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "payments" in line and "job runs in" in line:
                    break
            (ledger,) = tmp_path.glob("berth-demo-*/ledger")
            (run,) = (run for run in runs_of(Reader(ledger).read()) if run.lease == "payments")
            append(ledger, Entry(run.last_us, BEGIN, "intruder", "payments", run.token, 1))
            out, _ = process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == 1
        assert f"Moments with two active jobs of one lease: 1 (payments: processes {run.pid} and 1)" in (
            " ".join(out.split())
        )
        assert out.splitlines()[-1] == "2 of 4 did not hold."
        assert left_over(tmp_path) == []

    def test_in_a_terminal_a_table_follows_what_happens(self, surroundings: dict[str, str], tmp_path: Path):
        code, shown = in_terminal({**surroundings, "LANG": "C"})
        assert code == 0
        assert left_over(tmp_path) == []
        assert shown.isascii()
        assert "\x1b[?25h" in shown[shown.rindex("\x1b[?25l") :], "the cursor is hidden for good"
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert re.search(r"payments +\w+ +1 +[0-9.]+ s +\w+, process \d+", plain)
        assert re.search(r"payments +\w+ +1 +[0-9.]+ s +no process", plain)
        assert re.search(r"payments +\w+ +3 +[0-9.]+ s +\w+, process \d+", plain)
        assert "All of it held" in plain

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_at_once_and_leaves_nothing(
        self, surroundings: dict[str, str], tmp_path: Path, number: signal.Signals
    ):
        with subprocess.Popen(
            SHORT, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "job runs in" in line:
                    break
            assert left_over(tmp_path) != []
            process.send_signal(number)
            out, err = process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == 128 + number
        assert err == "Ended early; nothing is left running, and no file.\n"
        assert "Measured" not in out
        assert left_over(tmp_path) == []

    def test_a_reader_that_goes_away_is_no_traceback(self, surroundings: dict[str, str], tmp_path: Path):
        with subprocess.Popen(
            SHORT, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(LIMIT_SECONDS) == 1
        assert left_over(tmp_path) == []

    def test_a_ttl_that_nobody_could_watch_is_refused(self, surroundings: dict[str, str]):
        ran = subprocess.run(
            [*SHORT, "--ttl=1"], env=surroundings, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 2
        assert "--ttl: the demo can be watched from 2 to 60 seconds" in ran.stderr


def in_terminal(env: dict[str, str]) -> tuple[int, str]:
    """The exit code, and everything that the demo has written to a terminal of 80 by 24."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(SHORT, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b"".join(_chunks(ours))
        os.close(ours)
        return process.wait(LIMIT_SECONDS), shown.decode()


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(descriptor, 65536)
        except OSError:  # the last process with the terminal open has gone
            return


def job(
    lease: str, cluster: str, token: int, begun_s: float, last_s: float, *, killed: bool = False
) -> list[Entry]:
    """The lines of one job; its process id is made of its token and cluster."""
    pid = token * 100 + ord(cluster[0])
    events = [(begun_s, BEGIN), (last_s, BEAT if killed else END)]
    return [Entry(int(at * SECOND), event, cluster, lease, token, pid) for at, event in events]


GOOD = (
    *job("payments", "east", 1, 1.0, 10.0, killed=True),
    *job("backups", "west", 1, 1.0, 20.0),
    *job("payments", "west", 2, 14.2, 20.1),
    *job("backups", "east", 2, 20.5, 30.0),
    *job("payments", "east", 3, 20.9, 30.0),
)


def findings(*entries: Entry, expires_s: float = 14.0) -> list[Finding]:
    expires_us = {"payments": int(expires_s * SECOND)}
    return judge(Measured(5, entries, int(10.0 * SECOND), expires_us, int(19.9 * SECOND)))


def failed(*entries: Entry, expires_s: float = 14.0) -> list[str]:
    return [finding.text for finding in findings(*entries, expires_s=expires_s) if not finding.ok]


def without(token: int, lease: str) -> list[Entry]:
    return [entry for entry in GOOD if (entry.token, entry.lease) != (token, lease)]


class TestVerdict:
    def test_what_went_well_is_told_with_its_numbers(self):
        assert findings(*GOOD) == [
            Finding(
                True,
                "After the kill the jobs ran again within 4.2 s: 0.2 s after their leases expired "
                "(ttl 5 s; allowed: never before, at most 3 s after).",
            ),
            Finding(
                True,
                "When a cluster gave up in order, the jobs ran again within 0.5 to 0.8 s (allowed: 3 s), "
                "without waiting for the ttl.",
            ),
            Finding(True, "Moments with two active jobs of one lease: 0, in 10 writes by 5 jobs."),
            Finding(True, "The fencing token grew with every new holder: backups 1 2, payments 1 2 3."),
        ]

    @pytest.mark.parametrize(
        ("intruder", "told"),
        [
            (job("backups", "east", 9, 5.0, 6.0), "active jobs of one lease: 1"),
            (job("backups", "east", 9, 0.5, 1.0), "active jobs of one lease: 1"),
            # A job that was killed may have acted until just before its next line.
            (job("payments", "west", 9, 10.04, 10.045), "active jobs of one lease: 1"),
        ],
        ids=["within", "touching", "in the last beat of a killed one"],
    )
    def test_two_active_at_once_are_found(self, intruder: list[Entry], told: str):
        assert any(told in text for text in failed(*GOOD, *intruder))

    def test_jobs_of_different_leases_may_be_active_at_once(self):
        assert failed(*GOOD, *job("reports", "east", 1, 1.0, 30.0)) == []

    def test_a_job_before_its_lease_expired_is_found(self):
        (text,) = failed(*GOOD, expires_s=14.3)
        assert text.startswith("After the kill")

    def test_a_late_take_over_is_found(self):
        (text,) = failed(*GOOD, expires_s=11.1)
        assert text.startswith("After the kill")

    def test_a_missing_take_over_is_found(self):
        assert "After the kill nobody ran payments again." in failed(*GOOD[:4])

    def test_a_late_hand_over_is_found(self):
        (text,) = failed(*without(2, "backups"), *job("backups", "east", 2, 23.1, 30.0))
        assert text.startswith("When a cluster gave up in order")

    def test_a_missing_hand_over_is_found(self):
        assert "No job was handed over in order." in failed(*without(2, "backups")[:6])

    @pytest.mark.parametrize("token", [1, 2])
    def test_a_token_that_does_not_grow_is_found(self, token: int):
        again = job("payments", "east", token, 20.9, 30.0)
        (text,) = failed(*without(3, "payments"), *(entry._replace(pid=7) for entry in again))
        assert text == (
            f"The fencing token did not grow with each holder of payments: backups 1 2, payments 1 2 {token}."
        )


class TestLedger:
    def test_what_was_appended_is_read_piece_by_piece(self, tmp_path: Path):
        reader = Reader(tmp_path / "ledger")
        assert reader.read() == []
        entries = job("payments", "east", 1, 1.0, 2.0)
        for count, entry in enumerate(entries, 1):
            append(tmp_path / "ledger", entry)
            assert reader.read() == entries[:count]

    def test_runs(self):
        up = Entry(0, UP, "east", "-", 0, 1)
        (killed, ended) = runs_of(
            [up, *job("a", "east", 1, 1.0, 2.0, killed=True), *job("a", "west", 2, 3.0, 4.0)]
        )
        assert (killed.begun_us, killed.last_us, killed.ended) == (1 * SECOND, 2 * SECOND, False)
        assert (ended.cluster, ended.token, ended.ended) == ("west", 2, True)
