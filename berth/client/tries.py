"""Tries: what several tries of one call amount to.

Owns which calls may be sent twice, and what is raised in the end. Promises that an outcome which was unknown
once is never told as a refusal.
"""

from berth.client.answers import NotDone, Refused, Unclear
from berth.client.errors import ApiError, OutcomeUnknown, Unreachable
from berth.wire import routes

READS = frozenset(
    operation.id
    for operation in (
        routes.GET,
        routes.LIST,
        routes.LIST_ALL,
        routes.VERIFY,
        routes.GET_SESSION,
        routes.LIST_SESSIONS,
        routes.WHOAMI,
        routes.VERSION,
        routes.HEALTHZ,
    )
)

# What may be sent again though an earlier try may have been carried out, or may yet be:
# - reads and verify change nothing.
# - acquire: if the first was granted, its holder is the live holder, which keeps its tenure and its token. If
#   that tenure has ended meanwhile, the second wins a new one with a higher token, as it would have alone. A
#   first that arrives late, after a refusal or a release, makes a tenure that nobody acts on and that ends
#   with its ttl; a single try whose reply is lost can do the same.
# - renew: holder and token name one tenure. It is kept twice, or it is over and a late one is refused.
# - release: holder and token name one tenure. Ended twice, it is ended once; a late one meets a free lease or
#   a higher token, and ends nothing.
# - batch: each of its operations is one of these three, and they act in order both times.
# - open-session: another session may come of it, on which nothing hangs and which ends with its ttl.
# - renew-session, end-session: the id names one session, which is kept twice or ended once.
# Not force-release: its reply says whom it ended, and for how long that holder may still act. A second one
# could only be told that the token is stale, and the reply that matters would be lost behind it.
REPEATABLE = READS | {
    routes.ACQUIRE.id,
    routes.RENEW.id,
    routes.RELEASE.id,
    routes.BATCH.id,
    routes.OPEN_SESSION.id,
    routes.RENEW_SESSION.id,
    routes.END_SESSION.id,
}


class Tries:
    """The answers to one call so far, over all servers."""

    def __init__(self, operation: routes.Operation) -> None:
        self._reads = operation.id in READS
        self._repeatable = operation.id in REPEATABLE
        self._newest: dict[str, str] = {}
        self._unclear = False
        self._defect = False
        self._refusals: list[ApiError] = []

    def begin_round(self) -> None:
        self._refusals.clear()

    def note(self, url: str, answer: Refused | NotDone | Unclear) -> None:
        """Takes an answer in. Raises the fault when no other server is to be asked after it."""
        self._defect = isinstance(answer, Unclear) and answer.defect
        match answer:
            case Refused(error):
                self._newest[url] = f"{url} refused: {error}"
                # The refusal is of this try; an earlier one may have gone through, and that doubt counts.
                raise self.fault() if self._unclear else error
            case NotDone(text, refusal):
                self._newest[url] = text
                if refusal is not None:
                    self._refusals.append(refusal)
            case Unclear(text):
                self._newest[url] = text
                self._unclear = not self._reads
                if not self._repeatable:
                    raise self.fault()

    def asked_pause_seconds(self) -> float:
        """How long the servers of this round want to be left alone."""
        return max((error.retry_after_seconds or 0.0 for error in self._refusals), default=0.0)

    def fault(self) -> ApiError | Unreachable | OutcomeUnknown:
        """What to raise when there is no further try."""
        limited = [error for error in self._refusals if error.status == 429]
        if limited and not self._unclear:
            return limited[-1]
        fault = (OutcomeUnknown if self._unclear else Unreachable)("; ".join(self._newest.values()))
        fault.server_defect = self._defect
        return fault
