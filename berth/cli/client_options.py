"""The options that client commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from berth.config import Opt, Secret


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Which server to ask, as whom, and in which namespace."""

    api_server: Annotated[
        str, Opt("Base URL of the API server; several, separated by commas, are tried in turn", metavar="URL")
    ] = "https://localhost:8443"
    api_key: Annotated[
        Secret | None,
        Opt("API key; other users of this machine can see it, the file is safer", metavar="KEY"),
    ] = None
    api_key_file: Annotated[
        Path | None, Opt("File that holds the API key", metavar="FILE", instead_of="api_key")
    ] = None
    ca_file: Annotated[
        Path | None, Opt("Certificates, in PEM, that the server's is checked against", metavar="FILE")
    ] = None
    namespace: Annotated[str, Opt("Namespace of the lease", metavar="NAME", short="n")] = "default"

    def problems(self) -> list[str]:
        return []


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How a command prints its data."""

    output: Annotated[
        Literal["table", "json", "yaml"], Opt("Form of the output", short="o", flag_only=True)
    ] = "table"


@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """How a command prints objects that have names."""

    output: Annotated[
        Literal["table", "wide", "json", "yaml", "name"],
        Opt("Form of the output", short="o", flag_only=True),
    ] = "table"
