"""Findings: what a measure hands to the page."""

from dataclasses import dataclass


class NotMeasured(Exception):
    """It cannot be measured here; the text says why."""


@dataclass
class Row:
    """One line of the table. `reached` is None where there is no goal."""

    what: str
    goal: str
    measured: str
    ratio: str = ""
    reached: bool | None = None


@dataclass
class Finding:
    """Rows of the table, and below it in words what they mean and what holds the number back."""

    rows: list[Row]
    words: str


def percentile(samples: list[float], share: float) -> float:
    """By nearest rank."""
    ordered = sorted(samples)
    return ordered[max(0, -(-round(len(ordered) * share * 1000) // 1000) - 1)]


def thousands(number: float) -> str:
    return f"{number:,.0f}"
