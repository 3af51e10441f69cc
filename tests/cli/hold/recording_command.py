"""A command under a lease that writes down when it is active: a line every 20 ms, with the boot clock.

`recording_command.py FILE MODE`. Modes: `plain` ends on SIGTERM with code 40 and on SIGINT with 41; `deaf`
does not; `forks` has a deaf child in its process group as well; `daemonizes` has left one in a session of its
own. A line is `TOKEN KIND BOOT_US UNTIL_US PID`; UNTIL_US is what the state file says at that moment.
"""

import json
import os
import signal
import sys
import time

BEAT_SECONDS = 0.02
CODES = {signal.SIGTERM: 40, signal.SIGINT: 41}


def record(kind: str) -> None:
    with open(os.environ["BERTH_STATE_FILE"]) as file:
        until_us = min(lease["mayActUntilBootUs"] or 0 for lease in json.load(file)["leases"])
    boot_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    os.write(log, f"{os.environ['BERTH_FENCING_TOKEN']} {kind} {boot_us} {until_us} {os.getpid()}\n".encode())


def be_active() -> None:
    record("start")
    while True:
        time.sleep(BEAT_SECONDS)
        record("alive")


def be_deaf() -> None:
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)


def end(number: int, _: object) -> None:
    record("stop")
    os._exit(CODES[signal.Signals(number)])


log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
mode = sys.argv[2]
if mode == "deaf":
    be_deaf()
else:
    for number in CODES:
        signal.signal(number, end)
if mode in ("forks", "daemonizes") and os.fork() == 0:
    be_deaf()
    if mode == "daemonizes":
        os.setsid()
        if os.fork():
            os._exit(0)
    be_active()
be_active()
