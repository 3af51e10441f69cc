"""`berth doctor`: what stands between this client and its servers, and what to do about it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from berth.cli.client_options import ClientOptions
from berth.cli.options import OptionsCommand
from berth.config import Opt


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(ClientOptions):
    output: Annotated[Literal["table", "json"], Opt("Form of the output", short="o", flag_only=True)] = (
        "table"
    )


doctor = OptionsCommand(
    "doctor",
    DoctorOptions,
    "berth.cli.doctor_run:run",
    summary="Look at each server, the way to it, your key and the clocks, and say what to do about what is "
    "wrong. Exits with 0 when nothing failed, 6 when a server cannot be reached, 5 when you are not allowed, "
    "else 1. Changes nothing.",
)
