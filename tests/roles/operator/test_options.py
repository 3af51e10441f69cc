"""What can be said to the operator, and what is wrong with it."""

from collections.abc import Mapping

import pytest

from berth.config import ConfigErrors
from berth.config.load import load
from berth.roles.operator.options import OperatorOptions

SERVER = "https://berth.example.com"


def loaded(env: Mapping[str, str] | None = None, /, **flags: str) -> OperatorOptions:
    given = {"berth_api_server": SERVER, **flags}
    texts = {field: [text] for field, text in given.items() if text}
    return load(OperatorOptions, "operator", flags=texts, env=env or {}).options


def test_little_need_be_said() -> None:
    options = loaded()
    assert (options.shutdown, options.leader_elect, options.watch_namespaces) == ("keep", False, ())
    assert options.timing.lease_seconds == 15


def test_the_environment_has_the_name_that_is_said() -> None:
    env = {"BERTH_OPERATOR_API_SERVER": SERVER, "BERTH_OPERATOR_CLUSTER_ID": "east"}
    options = loaded(env, berth_api_server="")
    assert (options.berth_api_server, options.cluster_id) == (SERVER, "east")


def test_namespaces_are_several_in_the_environment() -> None:
    assert loaded({"BERTH_OPERATOR_WATCH_NAMESPACES": "a,b"}).watch_namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"berth_api_server": ""}, "--berth-api-server: required"),
        ({"watch_namespaces": "No_Such"}, "--watch-namespaces: "),
        ({"cluster_id": "e" * 300}, "--cluster-id: "),
        ({"leader_election_id": "No_Such"}, "--leader-election-id: "),
        ({"metrics_bind_address": "8080"}, "--metrics-bind-address: "),
        ({"metrics_bind_address": "0", "metrics_secure": "true"}, "--metrics-secure: there are no metrics"),
        ({"leader_election_lease_duration": "1500ms"}, "--leader-election-lease-duration: whole seconds"),
        ({"leader_election_renew_deadline": "20s"}, "the renew deadline"),
        ({"berth_api_key": "k", "berth_api_key_file": "f"}, "--berth-api-key"),
    ],
)
def test_what_is_wrong_is_told(flags: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigErrors) as fault:
        loaded(**flags)
    assert any(problem in each for each in fault.value.problems), fault.value.problems


def test_an_address_of_0_is_none() -> None:
    loaded(metrics_bind_address="0", health_probe_bind_address="0")
