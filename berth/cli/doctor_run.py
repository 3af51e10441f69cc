"""Runs the examination of every server, prints what was found, and says how the command ends."""

from collections.abc import Sequence

import trio

from berth.cli.doctor import DoctorOptions
from berth.cli.doctor_checks import Examination, Finding, key_file_finding
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.output import paragraph, print_data, printable
from berth.client import BerthClient, Misconfigured
from berth.client.urls import base_urls
from berth.runtime.clock import SystemClock
from berth.runtime.http import HttpClient
from berth.version import VERSION

_SEVEREST_FIRST = (ExitCode.UNREACHABLE, ExitCode.NOT_ALLOWED, ExitCode.FAULT)


def run(options: DoctorOptions) -> ExitCode:
    """The exit code. Raises Failure when the options cannot be used."""
    try:
        findings = trio.run(_examine, options)
    except Misconfigured as fault:
        raise Failure(printable(str(fault)), ExitCode.USAGE) from fault
    if options.output == "json":
        print_data([_wire(finding) for finding in findings], "json")
    else:
        _print_table(findings)
    codes = {finding.code for finding in findings if finding.level == "fail"}
    return next((code for code in _SEVEREST_FIRST if code in codes), ExitCode.DONE)


async def _examine(options: DoctorOptions) -> list[Finding]:
    findings: list[Finding] = []
    for url in base_urls(options.api_server):
        client = BerthClient(
            url,
            api_key=options.api_key.reveal() if options.api_key else None,
            api_key_file=options.api_key_file,
            ca_file=options.ca_file,
            timeout_seconds=5.0,
        )
        channel = HttpClient(user_agent=f"berth/{VERSION}", ca_file=options.ca_file)
        async with client, channel:
            findings += await Examination(url, options, client, channel, SystemClock()).run()
    here = key_file_finding(options)
    return findings if here is None else [*findings, here]


def _wire(finding: Finding) -> dict[str, str]:
    return {
        "server": finding.server,
        "check": finding.check,
        "level": finding.level,
        "found": finding.found,
        "advice": finding.advice,
    }


def _print_table(findings: Sequence[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    indent = " " * (width + 10)
    server = None
    for finding in findings:
        if finding.server != server:
            server = finding.server
            print(f"{printable(server) or 'this machine'}:")
        told = f"  {finding.level:<4}  {finding.check:<{width}}  {printable(finding.found)}"
        print(paragraph(told, indent=indent))
        if finding.advice:
            print(paragraph(indent + printable(finding.advice), indent=indent))
    print("\n" + _summary(findings))


def _summary(findings: Sequence[Finding]) -> str:
    levels = [finding.level for finding in findings]
    failed, doubtful = levels.count("fail"), levels.count("warn")
    if not failed and not doubtful:
        return "Nothing is wrong."
    return f"{failed} failed, {doubtful} to look at."
