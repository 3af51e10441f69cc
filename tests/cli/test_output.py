import json

import pytest

from berth.cli.output import print_data, print_record, print_table, printable, span

NASTY = "a\x1b[31mb\x07\u202ec\u2028d\ud800\x9b"


def test_printable_leaves_letters_and_escapes_the_rest():
    assert printable("Zürich 東京 a_b") == "Zürich 東京 a_b"
    assert printable(NASTY) == r"a\x1b[31mb\x07\u202ec\u2028d\ud800\x9b"
    assert printable("two\nlines\t") == r"two\nlines\t"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0.9, "0s"),
        (12, "12s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (185, "3m05s"),
        (3599, "59m59s"),
        (7380, "2h03m"),
        (86400, "1d00h"),
        (5 * 86400 + 4 * 3600 + 59, "5d04h"),
    ],
)
def test_span_rounds_down(seconds: float, text: str):
    assert span(seconds) == text


def test_table_is_aligned_without_trailing_blanks(capsys: pytest.CaptureFixture[str]):
    print_table(["NAME", "HOLDER"], [["a", "x"], ["longer-name", ""], [NASTY, "y"]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [["NAME", "HOLDER"], ["a", "x"], ["longer-name", "-"]]
    assert all(line == line.rstrip() and line.isprintable() for line in lines)
    assert {line.rindex(last) for line, last in zip(lines, ["HOLDER", "x", "-", "y"], strict=True)} == {
        lines[0].index("HOLDER")
    }


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_for_programs_cannot_drive_a_terminal(form, capsys: pytest.CaptureFixture[str]):
    print_data({"holder": NASTY.replace("\ud800", "")}, form)
    out = capsys.readouterr().out
    assert out.isascii()
    assert all(line.isprintable() for line in out.splitlines())


def test_a_record(capsys: pytest.CaptureFixture[str]):
    print_record({"tenant": "a", "authMode": "x\x1b"}, "table")
    assert capsys.readouterr().out == "tenant:   a\nauthMode: x\\x1b\n"
    print_record({"tenant": "a"}, "json")
    assert json.loads(capsys.readouterr().out) == {"tenant": "a"}
