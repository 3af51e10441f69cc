"""`berth version`: what this build is. Asks no server and imports nothing slow."""

import platform

from berth.cli.client_options import DataOptions
from berth.cli.options import OptionsCommand
from berth.cli.output import print_record
from berth.version import COMMIT, VERSION


def show(options: DataOptions) -> None:
    print_record({"version": VERSION, "commit": COMMIT, "python": platform.python_version()}, options.output)


version = OptionsCommand("version", DataOptions, show, summary="Show what this build is.")
