"""The examples of the manual can be followed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from berth.wire.berthlease import KIND, read_spec
from berth.wire.berthlease_rules import problems

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def test_there_are_some() -> None:
    assert {file.stem for file in FILES} == {"cronjob", "deployment", "statefulset"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_has_a_workload_that_is_stopped_and_a_lease_for_it(file: Path) -> None:
    workload, lease = (dict[str, Any](each) for each in yaml.safe_load_all(file.read_text()))
    assert lease["kind"] == KIND
    spec = read_spec(lease)
    assert problems(spec) == []
    assert spec.target is not None
    named = (workload["apiVersion"], workload["kind"], workload["metadata"]["name"])
    assert named == (spec.target.api_version, spec.target.kind, spec.target.name)
    assert workload["spec"].get("replicas", 0) == 0
    assert workload["spec"].get("suspend", True)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_pods_of_each_end_within_the_stop_budget(file: Path) -> None:
    workload, lease = (dict[str, Any](each) for each in yaml.safe_load_all(file.read_text()))
    spec = read_spec(lease)
    job = workload["spec"].get("jobTemplate", workload)["spec"]
    budget_seconds = spec.stop_budget_seconds or min(5, spec.ttl_seconds / 4)
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] <= budget_seconds
