"""The controller manager's stand-in: Deployments to pods, CronJobs to pods, and garbage collected.

Owns when its controllers look: after every change, all of them, until nothing is left to do. Small clusters
only. Works over the API as any client does; a real cluster has the real one.
"""

import trio

from berth.kube.api import KubeClient
from berth.runtime.log import Logger
from tests.kube.controllers.cache import Cache
from tests.kube.controllers.collecting import garbage
from tests.kube.controllers.jobs import CronJobs, jobs
from tests.kube.controllers.replicas import deployments, replica_sets, stateful_sets


async def run_controllers(client: KubeClient, *, logger: Logger) -> None:
    """Until it is cancelled."""
    cache = Cache(client, logger=logger)
    cron_jobs = CronJobs()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.run)
        await cache.synced()
        while True:
            cache.changed = trio.Event()
            for look in (deployments, stateful_sets, replica_sets, cron_jobs.look, jobs, garbage):
                await look(cache)
            with trio.move_on_at(cron_jobs.next_at()):
                await cache.changed.wait()
