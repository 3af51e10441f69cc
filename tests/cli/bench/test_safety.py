"""The safety check by itself: histories that are sound, however tight, and histories that are not."""

import pytest

from berth.cli.bench.safety import TOLD_MAX, Safety, SessionTime
from berth.core.holding import lifetime_us

S = 1_000_000
TTL = 10
LIFE = lifetime_us(TTL * S)


class History:
    """Calls on one lease; times in microseconds."""

    def __init__(self) -> None:
        self.safety = Safety()

    def held(
        self, holder: str, token: int, sent: int, received: int, session: SessionTime | None = None
    ) -> None:
        self.safety.held(
            "x", holder, token, sent_us=sent, received_us=received, ttl_seconds=TTL, session=session
        )

    def releasing(self, token: int, at: int) -> None:
        self.safety.releasing("x", token, sent_us=at)

    def over(self, token: int, at: int) -> None:
        self.safety.over("x", token, received_us=at)

    def alive(self, session: SessionTime, sent: int) -> None:
        self.safety.session_alive(session, sent_us=sent, ttl_seconds=TTL)

    def found(self) -> str:
        assert len(self.safety.told) == min(self.safety.violations, TOLD_MAX)
        return "\n".join(self.safety.told)


@pytest.fixture
def history() -> History:
    return History()


class TestSound:
    def test_renewals_and_a_release(self, history: History):
        history.held("a", 1, 0, 5)
        for at in range(S, 30 * S, S):
            history.held("a", 1, at, at + 5)
        history.releasing(1, 30 * S)
        history.held("b", 2, 29 * S, 30 * S + 1)  # asked before, and granted in the moment of the release
        history.over(1, 30 * S + 9)
        history.held("a", 3, 31 * S + LIFE, 31 * S + LIFE + 1)
        assert (history.found(), history.safety.tenures) == ("", 3)

    def test_a_take_over_in_the_moment_of_expiry(self, history: History):
        history.held("a", 1, 0, 5)
        history.held("b", 2, 0, LIFE)
        assert history.found() == ""

    def test_a_grant_whose_reply_came_after_its_time(self, history: History):
        history.held("a", 1, 0, 2 * LIFE)
        history.held("b", 2, LIFE, LIFE + 5)
        assert history.found() == ""

    def test_replies_out_of_order(self, history: History):
        history.held("b", 2, 0, 10)
        history.releasing(2, 20)
        history.held("a", 1, 0, 30)  # granted and expired long ago, as far as its holder can tell
        history.over(1, 40)
        assert history.found() == ""

    def test_a_renewal_whose_reply_came_after_the_release_was_sent(self, history: History):
        history.held("a", 1, 0, 5)
        history.releasing(1, 20)
        history.held("a", 1, 10, 40)
        history.held("b", 2, 20, 30)
        assert history.found() == ""

    def test_a_renewal_without_a_reply_prolongs_nothing(self, history: History):
        history.held("a", 1, 0, 5)
        # sent at 8 s, never answered, and never arrived
        history.held("b", 2, 9 * S, LIFE + 1)
        assert history.found() == ""

    def test_a_release_without_a_reply_and_the_same_grant_again(self, history: History):
        history.held("a", 1, 0, 5)
        history.releasing(1, 10)
        history.held("a", 1, 20, 30)  # the release has not arrived yet
        history.held("b", 2, 35, 40)  # and now it has
        assert history.found() == ""

    def test_leases_have_nothing_to_do_with_each_other(self, history: History):
        for lease in "xyz":
            history.safety.held(lease, lease, 1, sent_us=0, received_us=1, ttl_seconds=TTL)
        assert history.found() == ""

    def test_a_session_keeps_what_is_under_it(self, history: History):
        one, two = SessionTime(), SessionTime()
        history.alive(one, 0)
        history.held("a", 1, 5, 6, one)
        history.alive(one, 5 * S)
        history.alive(two, 5 * S)
        history.held("b", 2, 5 * S, 5 * S + LIFE, two)
        assert history.found() == ""

    def test_a_session_that_is_ended_frees_what_is_under_it(self, history: History):
        one = SessionTime()
        history.alive(one, 0)
        history.held("a", 1, 5, 6, one)
        history.safety.session_over(one, at_us=10)
        history.alive(one, 8)  # a reply that was on its way
        history.held("b", 2, 5, 11)
        assert history.found() == ""

    def test_a_long_history_is_forgotten(self, history: History):
        for token in range(1, 1000):
            history.held("ab"[token % 2], token, token * 10, token * 10 + 1)
            history.releasing(token, token * 10 + 2)
            history.over(token, token * 10 + 3)
        assert history.found() == ""
        assert len(history.safety._leases["x"].tenures) <= 2


class TestTwoHolders:
    def test_a_second_grant_while_the_first_is_held(self, history: History):
        history.held("a", 1, 0, 5)
        history.held("b", 2, 5, 9 * S)
        assert history.found() == (
            f"x: two holders at once, a with token 1 and b with token 2, for up to {(LIFE - 9 * S) / S:.6f} s"
        )

    def test_by_one_microsecond(self, history: History):
        history.held("a", 1, 0, 5)
        history.held("b", 2, 5, LIFE - 1)
        assert "two holders at once" in history.found()

    def test_after_a_renewal(self, history: History):
        history.held("a", 1, 0, 5)
        history.held("a", 1, 6 * S, 6 * S + 5)
        history.held("b", 2, 5, LIFE + 1)
        assert "two holders at once" in history.found()

    def test_a_renewal_that_was_granted_beside_the_next_holder(self, history: History):
        history.held("a", 1, 0, 5)
        history.held("b", 2, 5, LIFE + 1)
        history.held("a", 1, 5 * S, LIFE + 2)
        assert "a with token 1 and b with token 2" in history.found()

    def test_a_loss_that_is_told_too_late(self, history: History):
        history.held("a", 1, 0, 5)
        history.held("b", 2, 5, 100)
        history.over(1, 200)
        assert "two holders at once" in history.found()

    def test_a_pair_is_told_once(self, history: History):
        history.held("a", 1, 0, 5)
        for at in range(10, 100):
            history.held("b", 2, at, at + 1)
        assert history.safety.violations == 1

    def test_under_a_session(self, history: History):
        one = SessionTime()
        history.alive(one, 0)
        history.held("a", 1, 5, 6, one)
        history.alive(one, 5 * S)
        history.held("b", 2, LIFE, LIFE + 1)
        assert "two holders at once" in history.found()

    def test_a_session_that_is_kept_beside_the_next_holder(self, history: History):
        one = SessionTime()
        history.alive(one, 0)
        history.held("a", 1, 5, 6, one)
        history.held("b", 2, LIFE, LIFE + 1)
        assert history.found() == ""
        history.alive(one, 9 * S)
        assert "two holders at once" in history.found()


class TestTokens:
    @pytest.mark.parametrize("again", ["a", "b"])
    def test_one_token_for_two_tenures(self, history: History, again: str):
        history.held("a", 1, 0, 5)
        history.releasing(1, 10)
        history.over(1, 20)
        history.held(again, 1, 21, 30)
        assert history.found().startswith(f"x: token 1 was given to a, and again to {again}")

    def test_one_token_for_two_holders_whatever_the_times(self, history: History):
        history.held("a", 1, 0, 5)
        history.held("b", 1, 0, 3 * LIFE)
        assert history.found() == "x: token 1 was given to a, and again to b"

    def test_one_token_again_after_a_loss_that_was_told(self, history: History):
        history.held("a", 1, 0, 5)
        history.over(1, 10)
        history.held("a", 1, 11, 12)
        assert history.found() == "x: token 1 was given to a, and again to a after that tenure had ended"

    @pytest.mark.parametrize("token", [1, 2, 3])
    def test_a_token_that_does_not_grow(self, history: History, token: int):
        history.held("a", 3, 0, 5)
        history.releasing(3, 10)
        history.over(3, 11)
        history.held("b", token, 12, 13)
        assert "token 3" in history.found()
        assert history.safety.violations == 1

    def test_a_token_that_was_forgotten(self, history: History):
        for token in range(1, 100):
            history.held("a", token, token * 10, token * 10 + 1)
            history.releasing(token, token * 10 + 2)
            history.over(token, token * 10 + 3)
        history.held("b", 5, 1000, 1001)
        assert history.found() == "x: token 5 was given to b after token 99"

    def test_only_the_first_are_told_and_all_are_counted(self, history: History):
        history.held("a", 1, 0, 5)
        for _ in range(50):
            history.held("b", 1, 0, 3 * LIFE)
        assert (history.safety.violations, len(history.safety.told)) == (50, TOLD_MAX)
