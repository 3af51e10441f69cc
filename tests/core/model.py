"""A naive lease: dictionaries, one absolute clock, absolute times of expiry. `core` must agree with it.

It knows no idle times, no records and no compare-and-swap. It answers in the words of `world.told`.
"""

from dataclasses import dataclass, field
from typing import Literal

from berth.core.records import TOKEN_MAX
from berth.core.requests import Acquire, Expire, ForceRelease, Release, Renew, Request
from berth.core.sessions import EndSession, OpenSession, RenewSession, SessionRequest

Told = tuple[object, ...]
State = Literal["live", "closed", "doubtful", "over"]
End = Literal["clean", "expired", "forced"]


@dataclass
class Held:
    """A tenure: by ttl until `ends`, or for as long as its session."""

    holder: str
    session: str | None
    ends: int = 0


@dataclass
class Sign:
    """A session. `ended` is written down: it stays None past `ends` until somebody needs to know."""

    holder: str
    instance: str
    ttl: int
    ends: int
    ended: End | None = None


@dataclass
class Model:
    now: int = 0
    token: int = 0
    held: dict[int, Held] = field(default_factory=dict)
    sessions: dict[str, Sign] = field(default_factory=dict)
    semantics: str = ""
    max_holders: int | None = None
    lock_delay: int = 0
    handover: Literal["clean", "unclean"] = "clean"

    def ask(self, request: Request) -> Told:
        match request:
            case Acquire():
                return self.acquire(request)
            case Renew(holder, token, ttl):
                return self.renew(holder, token, ttl)
            case Release(holder, token, _):
                return self.release(holder, token)
            case Expire():
                return self.expire()
            case ForceRelease(token):
                return self.force_release(token)

    def ask_session(self, session: str, request: SessionRequest) -> bool:
        """Whether the session lives afterwards."""
        match request:
            case OpenSession(_, holder, instance, ttl):
                self.sessions[session] = Sign(holder, instance, ttl, self.now + ttl)
            case RenewSession() if self.is_alive(session):
                self.sessions[session].ends = self.now + self.sessions[session].ttl
            case RenewSession() | EndSession("expired"):
                self.write_off(session)
            case EndSession(how):
                self.sessions[session].ended = self.sessions[session].ended or how
        return self.is_alive(session)

    def is_alive(self, session: str) -> bool:
        sign = self.sessions[session]
        return sign.ended is None and self.now <= sign.ends

    def write_off(self, session: str) -> None:
        sign = self.sessions[session]
        if sign.ended is None and not self.is_alive(session):
            sign.ended = "expired"

    def ends(self, held: Held) -> int:
        return self.sessions[held.session].ends if held.session else held.ends

    def state(self, held: Held) -> State:
        ended = self.sessions[held.session].ended if held.session else "expired"
        if ended in ("clean", "forced"):
            return "over"
        if self.now <= self.ends(held):
            return "live"
        if self.now <= self.ends(held) + self.lock_delay:
            return "closed"
        return "over" if ended else "doubtful"

    def tokens(self, *states: State) -> list[int]:
        return [token for token, held in self.held.items() if self.state(held) in states]

    def acquire(self, request: Acquire) -> Told:
        if request.session:
            if not self.is_alive(request.session):
                return ("session_ended",)
            if self.sessions[request.session].holder != request.holder:
                return ("session_holder_mismatch",)
        live = self.tokens("live")
        if live and request.semantics != self.semantics:
            return ("semantics_mismatch",)
        for token in live:
            if self.is_same_holder(self.held[token], request):
                return self.keep(token, request)
        blocking = self.tokens("live", "closed")
        places = self.places(request)
        if len(blocking) >= places:
            return self.refuse(live, blocking, places)
        if len(blocking) + len(self.tokens("doubtful")) >= places:
            self.write_off_doubtful()
        if request.keep_only:
            return ("waiters", max(live or self.held, default=None), None)
        if self.token == TOKEN_MAX:
            return ("token_exhausted",)
        self.drop(self.tokens("over"))
        self.token += 1
        self.held[self.token] = Held(request.holder, request.session)
        self.semantics = request.semantics
        return self.keep(self.token, request)

    def is_same_holder(self, held: Held, request: Acquire) -> bool:
        if held.holder != request.holder or not (held.session and request.session):
            return held.holder == request.holder
        return self.sessions[held.session].instance == self.sessions[request.session].instance

    def keep(self, token: int, request: Acquire) -> Told:
        mine = self.held[token]
        if mine.session != request.session:
            return ("held_by_session" if mine.session else "held_by_ttl",)
        mine.ends = max(mine.ends, self.now + request.ttl_us)
        self.max_holders, self.lock_delay = request.max_holders, request.lock_delay_us
        return ("acquired", token, self.ends(mine) - self.now, self.handover, tuple(self.tokens("live")))

    def places(self, request: Acquire) -> float:
        if request.semantics == "at-most-once" or self.semantics == "at-most-once":
            return 1
        return float("inf") if request.max_holders is None else request.max_holders

    def refuse(self, live: list[int], blocking: list[int], places: float) -> Told:
        newest = max(live or self.held)
        if len(live) >= places:
            return ("held", newest, None)
        opens = sorted(self.ends(self.held[token]) for token in blocking if token not in live)
        enough = opens[len(blocking) - int(places)] + self.lock_delay
        return ("lock_delay", newest, enough - self.now)

    def renew(self, holder: str, token: int, ttl: int) -> Told:
        mine = self.held.get(token)
        if mine is None or mine.holder != holder or self.state(mine) != "live":
            return ("lost", self.token)
        if mine.session:
            return ("held_by_session",)
        mine.ends = max(mine.ends, self.now + ttl)
        return ("renewed", token, mine.ends - self.now)

    def release(self, holder: str, token: int) -> Told:
        mine = self.held.get(token)
        if mine is not None and mine.holder == holder:
            del self.held[token]
            self.handover = "clean"
            return ("released",)
        ended = mine is None and 0 < token <= self.token and self.semantics == "at-least-once"
        return ("released",) if ended or not self.held else ("not_holder",)

    def force_release(self, token: int) -> Told:
        if token not in self.held:
            return ("stale_token",) if self.token else ("not_found",)
        mine = self.held[token]
        if mine.session and self.state(mine) == "live":
            return ("held_by_session",)
        left = self.ends(mine) - self.now if self.state(mine) == "live" else 0
        del self.held[token]
        self.handover = "unclean"
        return ("forced", token, left)

    def expire(self) -> Told:
        if not self.tokens("over"):
            self.write_off_doubtful()
        if over := self.tokens("over"):
            self.drop(over)
            return ("expired", tuple(over))
        dues = [
            self.ends(held) + self.lock_delay * (self.state(held) == "closed") for held in self.held.values()
        ]
        return ("not expired", min(dues) + 1 - self.now if dues else None)

    def write_off_doubtful(self) -> None:
        for token in self.tokens("doubtful"):
            self.write_off(self.held[token].session or "")

    def drop(self, over: list[int]) -> None:
        for token in over:
            session = self.held.pop(token).session
            clean = session is not None and self.sessions[session].ended == "clean"
            self.handover = "clean" if clean else "unclean"
