"""The sequential model: an exclusive lease, the sessions it may be under, and what each operation does to it.

Written anew, without `berth.core`: with `decide` as the model, what is wrong in `decide` would be right. That
the two agree, where instants are exact, is a test of its own. Here they are not: a store judges and renews at
some instant between an operation's invocation and its return, so the end of a tenure is an interval, and so
is every judgement about it.

- A tenure may be over for another only where its ttl can have run out: the last renewal that counted was
  invoked more than a ttl before the other operation took effect. It is never shortened.
- It may be alive until its ttl has certainly run out. A store that goes by what each server has itself
  observed (`observes`) may keep it for longer, and one server for longer than another; so it may know of a
  session's end later than another, but for what is asked of the session itself.
- A tenure under a session lives as long as that. Who takes it over has ended the session before.
- Every new tenure has the next token. What is refused tells the lease as it stands.
- A grant in line may be taken back where its caller has gone, until the same holder is told of it.
- What has expired may be written down as ended at any time. No lock delay, no shared lease.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from tests.histories.checker import Verdict, check
from tests.histories.operations import Operation, Told, seconds
from tests.histories.state import Lease, Life

STORY_STEPS_MAX = 100_000

UNDER_ITS_TOKEN = {"granted", "held", "renewed", "forced"}
"""Replies to what came while a tenure stood, under the token that they tell."""


REFUSALS = {"closed", "lost", "not_holder", "stale_token", "session_ended", "held_by_session", "held_by_ttl"}
READINGS = {"held", "free", "never", *REFUSALS}


class Leases:
    """The model of every lease of one store."""

    initial = Lease()

    def __init__(self, operations: Iterable[Operation] = (), *, observes: bool = False) -> None:
        """With the lease's operations fewer ways are tried: none that is not as was told later."""
        self._observes = observes
        told = [each.told for each in operations if each.told is not None]
        self._owners = {each.token: each.holder for each in told if each.holder}
        self._cleans = {each.token: each.clean for each in told if each.clean is not None}
        self._by_kind: dict[str, Callable[[Lease, Operation, float], Iterator[Lease]]] = {
            "acquire": self._acquired,
            "renew": self._renewed,
            "release": self._released,
            "force": self._forced,
            "get": self._seen,
            "open": self._opened,
            "keep": self._kept_alive,
            "end": self._session_ended,
        }

    def after(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        """Every state that may follow."""
        if self._observes and asked.told is None and asked.kind in ("renew", "keep"):
            return  # it may live without, and would only be longer in the way
        for before in (lease, lease.ends(clean=True)) if lease.untold else (lease,):
            for after in self._by_kind[asked.kind](before, asked, until_us):
                if self._fits(after):
                    yield after

    def _fits(self, lease: Lease) -> bool:
        """Whether what is told of the token, and of the end before the next, can still come true."""
        if lease.holder:
            return self._owners.get(lease.token, lease.holder) == lease.holder
        return self._cleans.get(lease.token + 1, lease.clean) == lease.clean

    def is_reading(self, asked: Operation) -> bool:
        return asked.told is not None and asked.told.word in READINGS

    def is_too_late(self, lease: Lease, asked: Operation) -> bool:
        """A lease is held under a token, then free after it, then held under the next: it never goes back."""
        if asked.told is None or not asked.told.token:
            return False
        if asked.told.token == lease.token:
            return lease.holder != asked.told.holder and asked.told.word in UNDER_ITS_TOKEN
        return asked.told.token < lease.token

    def text(self, lease: Lease) -> str:
        if not lease.token:
            return "unused"
        if not lease.holder:
            return f"free after token {lease.token}"
        life = lease.life
        ends = f"expires between {seconds(life.ends_after_us)} and {seconds(life.ends_before_us)}"
        if life.over:
            ends = f"has ended ({life.over})"
        under = f", under session {lease.session[:6]}" if lease.session else ""
        return f"held by {lease.holder} under token {lease.token}{under}, which {ends}"

    def _acquired(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        is_mine = lease.holder == asked.holder
        kept = is_mine and self._may_live(lease, asked)
        if told is None or told.word == "granted":
            if kept and lease.session == asked.session:
                yield from _told_so(_kept(lease, asked, until_us), told)
            under_it = bool(asked.session) and lease.session == asked.session
            if not lease.holder or (lease.may_be_over(until_us) and not under_it):
                yield from self._taken(lease, asked, until_us)
        elif told.word == "held":
            if not is_mine and lease.stands(told) and self._may_live(lease, asked):
                yield lease.with_life(lease.life.alive_at(asked))
        elif told.word == "closed":
            if told.token == lease.token:
                yield from self._free(lease, asked, until_us)
        elif told.word == "session_ended":
            life = lease.of(asked.session)
            if life.may_be_over(until_us):
                yield (lease if self._observes else lease.put(asked.session, life.over_at(asked, until_us)))
        elif (
            kept
            and lease.session != asked.session
            and (told.word == "held_by_session") == bool(lease.session)
        ):
            yield lease.with_life(lease.life.alive_at(asked))

    def _taken(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        if asked.session and not (self._observes or lease.of(asked.session).may_live(asked)):
            return
        if lease.holder:
            if lease.session:
                lease = lease.put(lease.session, lease.life.ended("expired", asked, until_us))
            lease = lease.written_off()
        taken = lease._replace(token=lease.token + 1, holder=asked.holder, session=asked.session)
        taken = _kept(taken, asked, until_us)._replace(untold=asked.waits and asked.told is None)
        yield from _told_so(taken, asked.told)

    def _renewed(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        kept = lease.is_of(asked) and self._may_live(lease, asked)
        if told is None or told.word == "renewed":
            if kept and not lease.session and (told is None or lease.stands(told)):
                yield _kept(lease, asked, until_us)
        elif told.word == "held_by_session":
            if kept and lease.session:
                yield lease.with_life(lease.life.alive_at(asked))
        elif told.token == lease.token:
            if told.holder != lease.holder:
                yield from [lease.written_off()] if not told.holder and lease.may_be_over(until_us) else []
            elif lease.is_of(asked):
                yield from self._free(lease, asked, until_us)
            else:
                yield lease

    def _released(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        is_it = lease.is_of(asked)
        if told is None or told.word == "released":
            if is_it:
                yield lease.ends(clean=True, since_us=asked.invoked_us)
            elif told is not None and not lease.holder:
                yield lease
            if told is not None and lease.may_be_over(until_us):
                yield lease.written_off()
        elif lease.holder and not is_it:
            yield lease

    def _forced(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        is_it = bool(lease.holder) and asked.token == lease.token
        if told is None or told.word == "forced":
            allowed = not lease.session or lease.may_be_over(until_us)
            if is_it and allowed and (told is None or lease.stands(told)):
                yield lease.ends(clean=False, since_us=asked.invoked_us)
        elif told.word == "never":
            yield from [lease] if not lease.token else []
        elif told.word == "held_by_session":
            if is_it and lease.session and self._may_live(lease, asked):
                yield lease.with_life(lease.life.alive_at(asked))
        elif lease.token and not is_it:
            yield lease
        elif lease.token and lease.may_be_over(until_us):
            yield lease.written_off()

    def _seen(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        told = asked.told
        if told is None:
            return
        if told.word == "never":
            yield from [lease] if not lease.token else []
        elif told.word == "held":
            if lease.stands(told) and self._may_live(lease, asked):
                yield lease.with_life(lease.life.alive_at(asked))
        elif lease.token and told.token == lease.token:
            yield from self._free(lease, asked, until_us)

    def _opened(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        if lease.of(asked.session).over == "never":
            yield lease.put(asked.session, Life().renewed(asked, until_us))

    def _kept_alive(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        life = lease.of(asked.session)
        if asked.told is None or asked.told.word == "alive":
            if not life.over and (self._observes or life.may_live(asked)):
                yield lease.put(asked.session, life.renewed(asked, until_us))
        elif life.may_be_over(until_us):
            yield lease.put(asked.session, life.ended("expired", asked, until_us))

    def _session_ended(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        """Unless who took another lease from it has ended it before."""
        life = lease.of(asked.session)
        yield lease.put(asked.session, life.ended("clean", asked, until_us))
        if life.may_be_over(until_us) and not life.over:
            yield lease.put(asked.session, life.ended("expired", asked, until_us))

    def _may_live(self, lease: Lease, asked: Operation) -> bool:
        return bool(lease.holder) and (self._observes or lease.life.may_live(asked))

    def _free(self, lease: Lease, asked: Operation, until_us: float) -> Iterator[Lease]:
        """The lease where nobody may hold it now; then its tenure was over by then, for every database."""
        if not lease.holder:
            yield lease
        elif lease.may_be_over(until_us):
            yield lease if self._observes else lease.with_life(lease.life.over_at(asked, until_us))


def judge(operations: Sequence[Operation], *, observes: bool = False) -> Verdict:
    """Whether the history of one lease is linearizable; if not, by the model that is easier to follow."""
    verdict = check(operations, Leases(operations, observes=observes))
    if verdict.answer == "right":
        return verdict
    plain = check(operations, Leases(observes=observes), steps_max=STORY_STEPS_MAX)
    assert plain.answer != "right", verdict.text
    return plain if plain.answer == "wrong" else verdict._replace(text=plain.text)


def _told_so(lease: Lease, told: Told | None) -> Iterator[Lease]:
    """The lease where it is what the caller was told."""
    if told is None or (lease.stands(told) and told.clean in (None, lease.clean)):
        yield lease


def _kept(lease: Lease, asked: Operation, until_us: float) -> Lease:
    """The caller's tenure, of which he is told; its session is not renewed by that."""
    own = Life(since_us=max(asked.invoked_us, lease.own.since_us))
    if not lease.session:
        own = lease.own.renewed(asked, until_us)
    return lease._replace(own=own, untold=False)
