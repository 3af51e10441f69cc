from dataclasses import dataclass
from typing import Annotated

import pytest

from berth.config import Opt, options_of
from tests.config.declared import Everything


@dataclass(frozen=True)
class Bare:
    name: str = ""


@dataclass(frozen=True)
class Odd:
    when: Annotated[complex, Opt("Odd")] = 0j


BY_FIELD = {option.field: option for option in options_of(Everything)}


def test_keeps_the_order_of_the_fields():
    assert next(iter(BY_FIELD)) == "listen_addr"
    assert list(BY_FIELD)[-1] == "old"


@pytest.mark.parametrize(
    ("field", "flags", "key", "env"),
    [
        ("listen_addr", ("--listen-addr",), "listen_addr", "BERTH_OIDC_BROKER_LISTEN_ADDR"),
        ("verbose", ("-v", "--verbose"), "verbose", "BERTH_OIDC_BROKER_VERBOSE"),
        ("ca_file", ("--ca-file", "--ca-cert"), "ca_file", "BERTH_OIDC_BROKER_CA_FILE"),
        ("server", ("--berth-api-server",), "api_server", "BERTH_OIDC_BROKER_API_SERVER"),
    ],
)
def test_names_follow_from_the_field(field: str, flags: tuple[str, ...], key: str, env: str):
    option = BY_FIELD[field]
    assert (option.flags, option.key, option.env("oidc-broker")) == (flags, key, env)


def test_the_client_has_no_scope():
    assert BY_FIELD["ca_file"].env("") == "BERTH_CA_FILE"


def test_a_field_must_be_declared():
    with pytest.raises(TypeError, match="field name carries no Opt"):
        options_of(Bare)


def test_a_type_must_be_known():
    with pytest.raises(TypeError, match="no option can be of type"):
        options_of(Odd)
