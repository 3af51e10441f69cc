"""The data source of a MariaDB or MySQL database, as go-sql-driver/mysql writes it.

Owns the reading of `USER:PASSWORD@tcp(HOST:PORT)/DATABASE?PARAMETERS`. Promises that what cannot be used is
refused with a text that holds nothing of the DSN but the names of its parameters. Does not connect.
"""

import re
import ssl
from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from berth.store.api import StoreRefused

Tls = Literal["off", "preferred", "required"]

# A password may hold every character, so the address is what stands behind the last @ that one follows.
_DSN = re.compile(
    r"(?:(?P<credentials>.*)@)?(?P<net>[a-z0-9]+)?(?:\((?P<address>[^()]*)\))?"
    r"/(?P<database>[^/?]*)(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*))(?::(?P<port>\d+))?")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.]*")

_TLS_FILES = {"ssl-ca", "ssl-cert", "ssl-key"}

# What go-sql-driver does for its own callers, and what is settled here whatever the DSN says of it.
_NOT_OURS = {
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "serverPubKey",
    "time_zone",
    "timeTruncate",
    "timeout",
    "tls",
    "writeTimeout",
}


class Source(NamedTuple):
    """Where the database is. `variables` are system variables to set, other than those that berth sets."""

    user: str
    password: str
    host: str
    port: int
    unix_socket: str | None
    database: str
    tls: Tls
    context: ssl.SSLContext | None
    variables: Mapping[str, str]


def source(dsn: str) -> Source:
    """The source that `dsn` names. Raises StoreRefused."""
    parts = _DSN.fullmatch(dsn)
    if parts is None:
        raise _refused("has no '/' before the name of the database, or no address that could be one")
    user, _, password = (parts["credentials"] or "").partition(":")
    if not parts["database"]:
        raise _refused("names no database")
    parameters = dict(parse_qsl(parts["query"] or "", keep_blank_values=True))
    if parameters.get("loc", "UTC") != "UTC":
        raise _refused("has a loc other than UTC: leave it out")
    tls, context = _tls(parameters)
    host, port, unix_socket = _address(parts["net"] or "tcp", parts["address"] or "")
    variables = {
        name: value for name, value in parameters.items() if name not in _NOT_OURS and name not in _TLS_FILES
    }
    strange = [name for name in variables if not _VARIABLE.fullmatch(name)]
    if strange:
        raise _refused(f"has parameters that are no names of variables: {', '.join(sorted(strange))}")
    return Source(
        user, password, host, port, unix_socket, unquote(parts["database"]), tls, context, variables
    )


def _address(net: str, address: str) -> tuple[str, int, str | None]:
    if net == "unix":
        return "localhost", 0, address or "/tmp/mysql.sock"
    if net not in ("tcp", "tcp4", "tcp6"):
        raise _refused("has an address that is neither tcp(HOST:PORT) nor unix(PATH)")
    parts = _HOST_PORT.fullmatch(address)
    if parts is None:
        raise _refused("has an address whose port is not a number")
    return parts["v6"] or parts["host"] or "127.0.0.1", int(parts["port"] or 3306), None


def _tls(parameters: Mapping[str, str]) -> tuple[Tls, ssl.SSLContext | None]:
    mode = parameters.get("tls", "true" if "ssl-ca" in parameters else "false")
    if mode == "false":
        return "off", None
    if mode not in ("true", "skip-verify", "preferred"):
        raise _refused(
            "has a tls that is none of true, false, skip-verify, preferred: name an authority by ssl-ca=FILE"
        )
    try:
        context = ssl.create_default_context(cafile=parameters.get("ssl-ca"))
        if "ssl-cert" in parameters:
            context.load_cert_chain(parameters["ssl-cert"], parameters.get("ssl-key"))
    except OSError as error:
        raise _refused(f"has ssl-… files that cannot be used ({error})") from error
    if mode != "true":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return ("preferred" if mode == "preferred" else "required"), context


def _refused(text: str) -> StoreRefused:
    return StoreRefused(f"the MySQL DSN {text} (USER:PASSWORD@tcp(HOST:PORT)/DATABASE?tls=true)")
