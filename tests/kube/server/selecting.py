"""Label and field selectors, as far as clients write them."""

import re
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Test = Callable[[Object], bool]

_REQUIREMENT = re.compile(
    r"\s*(?:(?P<key>[\w./-]+)\s*(?P<op>==|=|!=)\s*(?P<value>[\w./-]*)"
    r"|(?P<skey>[\w./-]+)\s+(?P<sop>in|notin)\s*\((?P<set>[^)]*)\)"
    r"|(?P<not>!?)\s*(?P<exists>[\w./-]+))\s*(?:,|$)"
)


class SelectorInvalid(Exception):
    """The text is for the client."""


def by_labels(selector: str) -> Test:
    """Raises SelectorInvalid."""
    tests: list[Callable[[dict[str, str]], bool]] = []
    at = 0
    while at < len(selector):
        found = _REQUIREMENT.match(selector, at)
        if found is None:
            raise SelectorInvalid(f"unable to parse requirement: {selector[at:]!r}")
        tests.append(_requirement(found))
        at = found.end()
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _requirement(found: "re.Match[str]") -> Callable[[dict[str, str]], bool]:
    if key := found["key"]:
        wanted = found["op"] != "!="
        return lambda labels: (labels.get(key) == found["value"]) == wanted
    if key := found["skey"]:
        among = {value.strip() for value in found["set"].split(",")}
        wanted = found["sop"] == "in"
        return lambda labels: (labels.get(key) in among) == wanted
    return lambda labels: (found["exists"] in labels) != bool(found["not"])


def by_fields(selector: str) -> Test:
    """Knows `metadata.name` and `metadata.namespace`. Raises SelectorInvalid."""
    tests: list[Test] = []
    for requirement in filter(None, selector.split(",")):
        found = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", requirement)
        if found is None:
            raise SelectorInvalid(f"invalid selector: {selector!r}; can't understand {requirement!r}")
        field, op, value = found.groups()
        if field not in {"metadata.name", "metadata.namespace"}:
            raise SelectorInvalid(f'field label not supported: "{field}"')
        tests.append(_field(field.partition(".")[2], value, op != "!="))
    return lambda obj: all(test(obj) for test in tests)


def _field(name: str, value: str, wanted: bool) -> Test:
    return lambda obj: (obj["metadata"].get(name, "") == value) == wanted
