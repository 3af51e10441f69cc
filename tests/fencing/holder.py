"""A holder in a process of its own: `python -m tests.fencing.holder SERVER CA_FILE NAME TARGET…`.

Waits for a line on its input, acquires, writes, acquires again, finds by its own clock that the lease is its
own, stops itself at that point if its name is `paused`, and writes once more, each time to all targets.
Says what happens in lines of JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable
from functools import partial

import trio

from berth.client import BerthClient
from berth.client.fencing import StaleToken
from tests.fencing.targets import LEASE, Target, open_target

TTL_SECONDS = 1


async def main(server: str, ca_file: str, name: str, *addresses: str) -> None:
    targets = [await trio.to_thread.run_sync(open_target, address) for address in addresses]
    async with BerthClient(server, ca_file=ca_file) as client:
        say(ready=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        token, _ = await acquired(client, name)
        await write(targets, token, f"{name}: early")
        token, deadline = await acquired(client, name)
        assert trio.current_time() < deadline
        say(mine=token)
        if name == "paused":
            os.kill(os.getpid(), signal.SIGSTOP)
        await write(targets, token, f"{name}: late")


async def acquired(client: BerthClient, name: str) -> tuple[int, float]:
    """The token and the holder's deadline, once the lease is this holder's."""
    while True:
        asked = trio.current_time()
        reply = await client.acquire(*LEASE.split("/"), holder=name, ttl_seconds=TTL_SECONDS)
        if reply.acquired:
            return reply.fencing_token, asked + TTL_SECONDS
        await trio.sleep(0.05)


async def write(targets: Iterable[Target], token: int, text: str) -> None:
    for target in targets:
        try:
            await trio.to_thread.run_sync(target.write, token, text)
        except StaleToken as stale:
            say(refused=stale.token, highest=stale.highest)
        else:
            say(written=token)


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
