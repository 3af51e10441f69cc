"""Plays the demo and ends with its verdict.

Promises that a signal ends it in order: everything that was started is gone before the process is.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from berth.cli.demo.command import DemoOptions
from berth.cli.demo.stage import Stage, Unmet, open_stage
from berth.cli.demo.story import Story
from berth.cli.demo.verdict import Finding, Measured, judge
from berth.cli.demo.view import PlainView, View
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.output import paragraph, talk
from berth.client import BerthError
from berth.runtime.clock import SystemClock


def run(options: DemoOptions) -> int:
    """Play it, print what was measured, and give the exit status. Raises Failure."""
    match trio.run(_play, options.ttl):
        case Measured() as measured:
            findings = judge(measured)
            print("\n" + _told(findings))
            return ExitCode.DONE if all(finding.ok for finding in findings) else ExitCode.FAULT
        case int(number):
            talk("Ended early; nothing is left running, and no file.")
            return 128 + number
        case BrokenPipeError() as fault:
            raise fault  # whoever read the output has gone, which is told to nobody
        case fault:
            raise Failure(f"the demo could not go on: {fault}") from fault


async def _play(ttl_seconds: int) -> Measured | int | Exception:
    """What was measured, the signal that ended it before, or the fault that did."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        outcome: Measured | int | Exception = 0
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                nonlocal outcome
                outcome = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end)
            outcome = await _perform(ttl_seconds)
            nursery.cancel_scope.cancel()
        return outcome


async def _perform(ttl_seconds: int) -> Measured | Exception:
    try:
        with _open_view() as view:
            async with open_stage(ttl_seconds, SystemClock()) as stage:
                return await _tell(stage, view)
    except OSError as fault:
        return fault


async def _tell(stage: Stage, view: View) -> Measured | Exception:
    # A fault leaves the stage as a value: the stage's nursery would make a group of it.
    try:
        return await Story(stage, view).tell()
    except (Unmet, BerthError, OSError) as fault:
        return fault


@contextmanager
def _open_view() -> Iterator[View]:
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield PlainView()
        return
    from berth.cli.demo.screen import open_screen  # only for a terminal

    with open_screen() as screen:
        yield screen


def _told(findings: Sequence[Finding]) -> str:
    lines = [
        paragraph(f"{'ok' if finding.ok else 'FAILED':<6}   {finding.text}", indent=" " * 9)
        for finding in findings
    ]
    failed = sum(not finding.ok for finding in findings)
    end = (
        f"{failed} of {len(findings)} did not hold." if failed else "All of it held; nothing is left behind."
    )
    return "\n".join(["Measured:", *lines, "", end])
