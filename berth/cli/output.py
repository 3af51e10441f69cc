"""Data on stdout."""

import json
from collections.abc import Mapping


def print_record(record: Mapping[str, object], form: str) -> None:
    print(json.dumps(record))
