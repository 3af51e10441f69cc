"""Stamps: one text for one tenure, and nothing else is taken for one."""

import pytest

from berth.client.fencing import Stamp


@pytest.mark.parametrize("text", ["default/payments;7", "a/b.c;1", "default/payments;2147483647"])
def test_a_stamp_is_its_text(text: str) -> None:
    assert str(Stamp.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "7",
        "default/payments",
        "default/payments;",
        "default/payments;0",
        "default/payments;-1",
        "default/payments;+7",
        "default/payments;07",
        "default/payments;7.0",
        "default/payments;\N{ARABIC-INDIC DIGIT SEVEN}",
        "default/payments; 7",
        "default/payments;7\n",
        "default/payments;2147483648",
        "default/payments;" + "9" * 5000,
        "payments;7",
        "/payments;7",
        "default/;7",
        "Default/payments;7",
        "default/payments/more;7",
        "default/payments;7;8",
        "default/payments;7, default/payments;8",
        f"{'a' * 63}/{'b' * 253};7",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Stamp.parse(text)
