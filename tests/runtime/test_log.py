import json
import logging
from io import StringIO

import pytest

from berth.runtime.clock import ManualClock
from berth.runtime.log import FIELD_CHARACTERS, TRACEBACK_CHARACTERS, Logs

CLOCK = ManualClock(wall_us=1_700_000_000_500_000)


def test_a_line_is_json_with_the_known_keys_first() -> None:
    stream = StringIO()
    Logs(stream=stream, clock=CLOCK).logger("berth.test").warning("it happened", count=3, ok=True, who=None)
    assert json.loads(stream.getvalue()) == {
        "time": "2023-11-14T22:13:20.5Z",
        "level": "WARN",
        "msg": "it happened",
        "logger": "berth.test",
        "count": 3,
        "ok": True,
        "who": None,
    }
    assert list(json.loads(stream.getvalue()))[:4] == ["time", "level", "msg", "logger"]


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("debug", ["DEBUG", "INFO", "WARN", "ERROR"]),
        ("info", ["INFO", "WARN", "ERROR"]),
        ("warn", ["WARN", "ERROR"]),
        ("error", ["ERROR"]),
    ],
)
def test_a_level_keeps_what_is_at_least_as_grave(level: str, levels: list[str]) -> None:
    stream = StringIO()
    logger = Logs(level, stream=stream).logger("x")  # pyright: ignore[reportArgumentType]
    for write in (logger.debug, logger.info, logger.warning, logger.error):
        write("m")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == levels


@pytest.mark.parametrize("line_format", ["json", "text"])
def test_nothing_in_a_field_breaks_the_line_or_the_terminal(line_format: str) -> None:
    stream = StringIO()
    logger = Logs(stream=stream, line_format=line_format).logger("x")  # pyright: ignore[reportArgumentType]
    hostile = "a\nb\rc\x1b[31md\u2028e\u202ef\x7fg\x85h\ud800i"
    logger.info(hostile, field=hostile, nested=[hostile])
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert text.isascii()


def test_fields_are_capped() -> None:
    stream = StringIO()
    Logs(stream=stream).logger("x").info("m" * 5000, long="x" * 5000, listed=["y" * 5000])
    line = json.loads(stream.getvalue())
    assert [len(line[key]) for key in ("msg", "long", "listed")] == [FIELD_CHARACTERS] * 3


def test_a_field_cannot_replace_what_the_log_says_itself() -> None:
    stream = StringIO()
    Logs(stream=stream).logger("real").info("m", logger="fake", level="fake")
    line = json.loads(stream.getvalue())
    assert (line["logger"], line["level"]) == ("real", "INFO")


def test_a_traceback_keeps_its_end() -> None:
    stream = StringIO()
    try:
        raise ValueError("x" * 20_000 + " the end")
    except ValueError:
        Logs(stream=stream).logger("x").error("m", exc_info=True)
    text = json.loads(stream.getvalue())["traceback"]
    assert len(text) == TRACEBACK_CHARACTERS
    assert text.endswith("the end\n")


def test_text_is_key_value_with_quotes_where_needed() -> None:
    stream = StringIO()
    Logs(stream=stream, line_format="text", clock=CLOCK).logger("x").info("two words", path="/a", n=1)
    assert (
        stream.getvalue() == 'time=2023-11-14T22:13:20.5Z level=INFO msg="two words" logger=x path=/a n=1\n'
    )


def test_a_stream_that_fails_does_not_stop_the_work() -> None:
    stream = StringIO()
    logger = Logs(stream=stream).logger("x")
    stream.close()
    logger.info("m")


def test_the_standard_librarys_loggers_are_routed_in_and_back() -> None:
    stream = StringIO()
    before = logging.getLogger().handlers[:]
    with Logs(stream=stream).capturing_stdlib():
        logging.getLogger("other.library").warning("%s %d", "said", 1)
        logging.getLogger("other.library").info("chatter")
    assert logging.getLogger().handlers == before
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["msg"]) == ("WARN", "other.library", "said 1")
