"""What `berth lease list` does: print the leases as they are and, watching, what happens to them.

Owns how a watch looks and how it ends: SIGINT and SIGTERM are how people end one, so they are no fault. What
it takes to go on over broken connections is `berth.client.follow`'s.
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from signal import SIGINT, SIGTERM

import msgspec
import trio
from msgspec import UNSET

from berth.cli.connect import call
from berth.cli.exit_codes import ExitCode
from berth.cli.lease import ListOptions
from berth.cli.lease_view import lease_columns, lease_name, show_leases
from berth.cli.output import print_data, print_row, print_table, printable, talk
from berth.client import BerthClient, Interrupted, Sighting, follow
from berth.client.watching import list_whole
from berth.runtime.signals import not_ignored
from berth.runtime.supervise import alongside
from berth.wire.shapes import LeaseList, LeaseObject, WatchEvent


def list_leases(options: ListOptions) -> ExitCode:
    namespace = None if options.all_namespaces else options.namespace
    if options.watch:
        return call(options, _Watching(options).run)
    found = call(options, partial(list_whole, namespace=namespace))
    if not found.items and options.output in ("table", "wide"):
        talk(f"no leases in namespace {namespace}" if namespace else "no leases")
    else:
        show_leases(found.items, options.output, whole=found, with_namespace=options.all_namespaces)
    return ExitCode.DONE


class _Watching:
    """One watch on the terminal."""

    def __init__(self, options: ListOptions) -> None:
        self._form = options.output
        self._namespace = None if options.all_namespaces else options.namespace
        self._columns = lease_columns(options.output, with_namespace=options.all_namespaces)
        self._widths: Sequence[int] = ()
        self._listed = False
        self._interrupted = False

    async def run(self, client: BerthClient) -> ExitCode:
        with trio.CancelScope() as scope:
            async with alongside(partial(_until_signalled, scope)), follow(client, self._namespace) as seen:
                async for sighting in seen:
                    self._show(sighting)
                    sys.stdout.flush()
        return ExitCode.DONE

    def _show(self, sighting: Sighting) -> None:
        if isinstance(sighting, Interrupted):
            if not self._listed:
                raise sighting.fault
            if not self._interrupted:
                talk(f"nothing is heard now, trying again: {printable(str(sighting.fault))}")
            self._interrupted = True
            return
        if self._interrupted:
            talk("heard again")
        self._interrupted = False
        if isinstance(sighting, LeaseList):
            if self._listed:
                talk("listed again, for the server cannot tell what happened meanwhile")
            self._listed = True
            self._show_list(sighting)
        elif sighting.object is not UNSET:
            self._show_change(sighting, sighting.object)

    def _show_list(self, listed: LeaseList) -> None:
        match self._form:
            case "table" | "wide":
                headings = [*(heading for heading, _ in self._columns), "CHANGE"]
                self._widths = print_table(headings, [self._row(lease, "") for lease in listed.items])
            case "name":
                for lease in listed.items:
                    self._show_name(lease)
            case form:
                _print_line(listed, form)

    def _show_change(self, event: WatchEvent, lease: LeaseObject) -> None:
        match self._form:
            case "table" | "wide":
                print_row(self._row(lease, event.type), self._widths)
            case "name":
                self._show_name(lease)
            case form:
                _print_line(event, form)

    def _row(self, lease: LeaseObject, change: str) -> list[str]:
        return [*(cell(lease) for _, cell in self._columns), change]

    def _show_name(self, lease: LeaseObject) -> None:
        print(lease_name(lease, with_namespace=self._namespace is None))


async def _until_signalled(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(*not_ignored(SIGINT, SIGTERM)) as received:
        async for _ in received:
            scope.cancel()


def _print_line(data: msgspec.Struct, form: str) -> None:
    """One object of the wire, as a line of JSON or a document of YAML."""
    built = msgspec.to_builtins(data)
    if form == "json":
        print(json.dumps(built))
    else:
        print("---")
        print_data(built, "yaml")
