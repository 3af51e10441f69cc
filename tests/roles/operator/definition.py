"""The custom resource, brought to a real cluster as an administrator does."""

from pathlib import Path
from typing import Any

import trio
import yaml

from berth.kube.api import KubeClient
from berth.kube.faults import KubeFault
from tests.kube.conftest import BERTH_LEASES, DEFINITIONS

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "charts" / "berth-operator" / "crds" / "berthlease.yaml"
SERVED_SECONDS = 20.0


async def define(client: KubeClient) -> None:
    """Returns once it is served."""
    definition: Any = yaml.safe_load(FILE.read_text())
    await client.create(DEFINITIONS, definition)
    with trio.fail_after(SERVED_SECONDS):
        while True:
            try:
                await client.list_page(BERTH_LEASES, "default")
                return
            except KubeFault:
                await trio.sleep(0.1)
