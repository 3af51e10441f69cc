"""The table of problems: complete, and the same for status, exit code and text as users know it."""

from typing import get_args

import pytest

from berth.core.requests import Refusal, Refused
from berth.wire.problems import PROBLEMS, Code, Failure, Label, refusal

STATUS: dict[int, set[Code]] = {
    400: {
        "invalid_body",
        "invalid_holder",
        "invalid_ttl",
        "ttl_too_large",
        "ttl_too_small",
        "invalid_token",
        "invalid_namespace",
        "invalid_name",
        "invalid_key",
        "session_holder_mismatch",
    },
    401: {"unauthenticated"},
    403: {"forbidden_namespace", "forbidden_holder", "forbidden_role"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    409: {
        "not_holder",
        "stale_token",
        "semantics_mismatch",
        "session_ended",
        "held_by_session",
        "held_by_ttl",
    },
    410: {"revision_too_old"},
    413: {"body_too_large"},
    429: {"too_many_connections", "rate_limited", "quota"},
    500: {"internal"},
    503: {"quarantine", "store_unavailable", "outcome_unknown", "token_exhausted", "shutting_down"},
}
EXIT_CODE = {400: 2, 413: 2, 401: 5, 403: 5, 404: 3, 405: 1, 409: 3, 410: 3, 429: 6, 500: 1, 503: 6}
KNOWN_TEXTS: dict[Code, str] = {
    "invalid_holder": "holder is required",
    "invalid_ttl": "ttlSeconds must be positive",
    "invalid_token": "fencingToken must be non-zero",
    "body_too_large": "request body must be at most 4096 bytes",
    "unauthenticated": "unauthorized",
    "forbidden_namespace": "not authorized for this namespace",
    "forbidden_holder": "holder not authorized for this identity",
    "not_holder": "lease held by another identity or token",
    "internal": "internal error",
}
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)


def test_every_code_has_its_row() -> None:
    assert set(get_args(Code)) == set(PROBLEMS)


def test_a_code_keeps_its_status() -> None:
    for status, codes in STATUS.items():
        for code in codes:
            assert PROBLEMS[code].status == status, code


def test_an_exit_code_follows_from_the_status() -> None:
    for code, problem in PROBLEMS.items():
        assert problem.exit_code == EXIT_CODE[problem.status], code


def test_texts_that_users_of_the_reference_know() -> None:
    for code, text in KNOWN_TEXTS.items():
        assert PROBLEMS[code].text == text


def test_texts_tell_codes_apart() -> None:
    texts = [problem.text for problem in PROBLEMS.values()]
    assert all(texts)
    assert len(texts) == len(set(texts))


def test_labels_are_those_that_dashboards_know() -> None:
    assert set(get_args(Label)) == {
        "acquired",
        "held-by-other",
        "renewed",
        "released",
        "conflict",
        "unauthorized",
        "invalid-key",
        "error",
        "",
    }
    for code, problem in PROBLEMS.items():
        assert problem.label in get_args(Label), code
        if problem.status == 500 or (problem.status == 503 and code != "shutting_down"):
            assert problem.label == "error", code
        if problem.status in (403, 413):
            assert problem.label == "", code


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_is_a_problem(reason: Refusal) -> None:
    failure = refusal(Refused(reason))
    assert failure.code == reason
    assert failure.problem is PROBLEMS[failure.code]
    assert failure.retry_after_seconds is None
    assert refusal(Refused(reason, 1_500_000)).retry_after_seconds == 1.5


def test_a_failure_may_say_more_than_its_code() -> None:
    assert Failure("not_found").text == "not found"
    failure = Failure("not_found", "lease n/x was never used")
    assert (failure.text, str(failure)) == ("lease n/x was never used",) * 2
    assert failure.problem.status == 404
