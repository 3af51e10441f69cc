from dataclasses import dataclass

from berth.config import Secret


@dataclass(frozen=True)
class Holder:
    key: Secret


def test_no_text_form_shows_it():
    secret = Secret("hunter2")
    for text in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>20}",
        repr(Holder(secret)),
        repr([secret]),
    ):
        assert "hunter2" not in text


def test_reveals_and_compares():
    assert Secret("a").reveal() == "a"
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ä") != Secret("a")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
