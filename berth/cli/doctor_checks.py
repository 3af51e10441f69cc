"""The examination of one server: the way to it, its certificate, what it answers, and what it takes us for.

Owns what is looked at, in which order, and what is good, doubtful and bad. Promises to change nothing, to end
in bounded time, and to send the key to nobody whose certificate is refused. Does not print.
"""

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

from berth.cli.doctor import DoctorOptions
from berth.cli.exit_codes import ExitCode
from berth.cli.output import span
from berth.client import BerthClient, BerthError, NotAllowed, NotFound, WrongAddress
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.http import HttpClient, HttpFault, Reply
from berth.runtime.probe import Handshake, Unreached, connect, handshake, resolve
from berth.version import VERSION
from berth.wire.routes import HEALTHZ, READYZ, Operation

ANSWER_SECONDS = 5.0
EXPIRY_WARN_DAYS = 21
OFFSET_WARN_SECONDS = 2.0
ROUND_TRIPS = 3
ROUND_TRIP_WARN_SECONDS = 1.0
TTL_SECONDS = 30
"""What `--ttl` is unless given; a holder renews three times in it."""

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Finding:
    """`server` is its URL, "" for what is on this machine; `code` is how the command ends on a fail."""

    server: str
    check: str
    level: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""
    code: ExitCode = ExitCode.FAULT


@dataclass(frozen=True, slots=True)
class _Answer:
    """A reply with the wall clock around it, in microseconds, and how long it took."""

    reply: Reply
    sent_us: int
    received_us: int
    seconds: float


def key_file_finding(options: DoctorOptions) -> Finding | None:
    """Whether others could use the key, where it is in a file. Raises OSError."""
    file = options.api_key_file
    if file is None:
        return None
    if file.stat().st_mode & 0o077:
        return Finding("", "key file", "warn", f"{file} is open to other users", f"chmod 600 {file}")
    return Finding("", "key file", "ok", f"{file} is yours alone")


class Examination:
    """One server. `client` asks this one only."""

    def __init__(
        self, url: str, options: DoctorOptions, client: BerthClient, channel: HttpClient, clock: Clock
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._options = options
        self._client = client
        self._channel = channel
        self._clock = clock
        self._findings: list[Finding] = []

    async def run(self) -> list[Finding]:
        """What was found, up to the first thing without which nothing else can be looked at."""
        if await self._address() and await self._certificate() and await self._api():
            await self._version()
            await self._key()
            await self._store()
            await self._time()
        return self._findings

    async def _address(self) -> bool:
        try:
            addresses = await resolve(self._host, self._port)
            async with await connect(self._host, self._port):
                pass
        except Unreached as fault:
            advice = "Check --api-server; then: does the server run, and is a firewall between?"
            return self._fail("address", str(fault), advice, ExitCode.UNREACHABLE)
        return self._ok(
            "address", f"{self._host} is {', '.join(addresses)}; port {self._port} accepts connections"
        )

    async def _certificate(self) -> bool:
        if not self._tls:
            return self._ok("tls", "none: plain HTTP, which stays on this machine")
        ca_file = self._options.ca_file
        try:
            shaken = await handshake(self._host, self._port, ca_file=ca_file)
            if ca_file is not None and not shaken.flaw:
                needed = (await handshake(self._host, self._port, ca_file=None)).flaw == "trust"
                by = str(ca_file) if needed else "the system's authorities; --ca-file is not needed"
            else:
                by = "the system's authorities"
        except Unreached as fault:
            advice = "Is it an API server's port? One that serves without TLS is asked by http://."
            return self._fail("tls", str(fault), advice, ExitCode.UNREACHABLE)
        if not self._in_time(shaken):
            return False
        if shaken.flaw:
            return self._refused(shaken)
        return self._ok("trust", f"{shaken.version}; trusted by {by}")

    def _refused(self, shaken: Handshake) -> bool:
        names = ", ".join(shaken.certificate.names) or "nothing"
        match shaken.flaw:
            case "name":
                found = f"the certificate is for {names}, not for {self._host}"
                advice = "Ask for the server by one of these names, or give it a certificate for this one."
            case "time":
                found = f"the certificate is refused: {shaken.reason}"
                advice = "Renew what has expired; if nothing has, this machine's clock is wrong."
            case _:
                found = f"not trusted: {shaken.reason} (issued by {shaken.certificate.issuer})"
                advice = "--ca-file or BERTH_CA_FILE: a file of the authority that signed the certificate."
        return self._fail("trust", found, advice, ExitCode.UNREACHABLE)

    def _in_time(self, shaken: Handshake) -> bool:
        left_seconds = shaken.certificate.not_after_seconds - self._clock.wall_us() // MICROSECONDS
        renew = "Renew it; the server takes a new one up without a restart."
        if left_seconds <= 0:
            found = f"expired {span(-left_seconds)} ago"
            return self._fail("certificate", found, renew, ExitCode.UNREACHABLE)
        if left_seconds < EXPIRY_WARN_DAYS * DAY_SECONDS:
            return self._warn("certificate", f"expires in {span(left_seconds)}", renew)
        return self._ok("certificate", f"valid for another {span(left_seconds)}")

    async def _api(self) -> bool:
        try:
            answer = await self._ask(HEALTHZ)
        except HttpFault as fault:
            return self._fail("http", str(fault), "The server's log may tell more.", ExitCode.UNREACHABLE)
        if answer.reply.status != HEALTHZ.status or answer.reply.body.strip() != b"ok":
            found = f"{HEALTHZ.path} answers {answer.reply.status}, but not as an API server does"
            return self._fail("http", found, "Something else listens there: check the address and the port.")
        return self._ok("http", "an API server answers")

    async def _version(self) -> None:
        try:
            theirs = (await self._client.server_version()).version
        except BerthError as fault:
            self._warn("version", f"the server does not tell its version: {fault}", "It may be an older one.")
            return
        if _minor(theirs) != _minor(VERSION):
            advice = "Minor versions may differ in what they can; bring both to the same one."
            self._warn("version", f"the server's is {theirs}, this client's {VERSION}", advice)
        else:
            self._ok("version", f"the server's is {theirs}, this client's {VERSION}")

    async def _key(self) -> None:
        try:
            me = await self._client.whoami()
        except NotAllowed as fault:
            self._fail("key", *self._refused_key(fault), ExitCode.NOT_ALLOWED)
        except (NotFound, WrongAddress):
            self._warn("key", "the server cannot tell who you are", "It may be an older one.")
        except BerthError as fault:
            self._fail("key", f"the server does not tell who you are: {fault}", "Its log may tell more.")
        else:
            if me.auth_mode == "none":
                advice = "Good for trying things out; --auth-mode static-keys makes the server ask."
                self._warn("key", "the server asks for none: whoever reaches it may do everything", advice)
            else:
                self._ok("key", f"you are tenant {me.tenant} with role {me.role}")

    def _refused_key(self, fault: NotAllowed) -> tuple[str, str]:
        if fault.status != 401:
            return f"refused: {fault}", "The server's administrator can say what your key may do."
        if self._options.api_key is None and self._options.api_key_file is None:
            return "the server wants one", "Pass --api-key-file or set BERTH_API_KEY_FILE."
        return (
            "the server does not know this one",
            "Check --api-key-file and --api-key. A server reads its list of keys again on SIGHUP.",
        )

    async def _store(self) -> None:
        try:
            reply = (await self._ask(READYZ)).reply
        except HttpFault as fault:
            self._fail("store", str(fault), "The server's log may tell more.")
            return
        if reply.status == READYZ.status:
            self._ok("store", "ready")
        else:
            advice = (
                "Leases cannot be renewed there. The server's log says why: its store, or it is stopping."
            )
            self._fail("store", f"not ready: {READYZ.path} answers {reply.status}", advice)

    async def _time(self) -> None:
        try:
            answers = [await self._ask(HEALTHZ) for _ in range(ROUND_TRIPS)]
        except HttpFault as fault:
            self._fail("round trip", str(fault), "The connection does not last; is a proxy between?")
            return
        quickest = min(answers, key=lambda answer: answer.seconds)
        told = (
            f"{quickest.seconds * 1000:.0f} ms; with a ttl of {TTL_SECONDS} s a holder renews "
            f"every {TTL_SECONDS // 3} s"
        )
        if quickest.seconds > ROUND_TRIP_WARN_SECONDS:
            self._warn("round trip", told, "Long against short ttls: give leases a ttl of 30 s or more.")
        else:
            self._ok("round trip", told)
        self._offset(quickest)

    def _offset(self, answer: _Answer) -> None:
        seconds = offset_seconds(answer.reply.headers.get("date", ""), answer.sent_us, answer.received_us)
        advice = "Leases do not depend on it, but times in replies and logs mislead: let NTP set both."
        if seconds is None:
            self._warn("clock", "the server does not tell the time", "A proxy may have taken it out.")
        elif abs(seconds) > OFFSET_WARN_SECONDS:
            way = "ahead of" if seconds > 0 else "behind"
            self._warn("clock", f"the server's is at least {abs(seconds):.0f} s {way} this machine's", advice)
        else:
            self._ok("clock", f"the server's and this machine's agree within {OFFSET_WARN_SECONDS:g} s")

    async def _ask(self, operation: Operation) -> _Answer:
        started_us, sent_us = self._clock.boot_us(), self._clock.wall_us()
        reply = await self._channel.request(
            operation.method, self._url + operation.path, timeout_seconds=ANSWER_SECONDS
        )
        took_us = self._clock.boot_us() - started_us
        return _Answer(reply, sent_us, self._clock.wall_us(), took_us / MICROSECONDS)

    def _ok(self, check: str, found: str) -> Literal[True]:
        self._findings.append(Finding(self._url, check, "ok", found))
        return True

    def _warn(self, check: str, found: str, advice: str) -> Literal[True]:
        self._findings.append(Finding(self._url, check, "warn", found, advice))
        return True

    def _fail(self, check: str, found: str, advice: str, code: ExitCode = ExitCode.FAULT) -> Literal[False]:
        self._findings.append(Finding(self._url, check, "fail", found, advice, code))
        return False


def offset_seconds(date: str, sent_us: int, received_us: int) -> float | None:
    """How far the server's clock is ahead of ours at the least, by the whole second it gave in between.

    0 when both can be right; None when `date` is no date.
    """
    try:
        second = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    least, most = second - received_us / MICROSECONDS, second + 1 - sent_us / MICROSECONDS
    return least if least > 0 else most if most < 0 else 0.0


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
