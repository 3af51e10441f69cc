"""One job: what a cluster runs while it holds a lease, and nobody else may run at the same moment.

Writes to the ledger all the time until it is told to end (SIGTERM). Whoever started it answers for its end.
"""

import os
import signal

from berth.cli.demo.command import JobOptions
from berth.cli.demo.ledger import BEAT, BEAT_SECONDS, BEGIN, END, Entry, append
from berth.runtime.clock import SystemClock


def run(options: JobOptions) -> None:
    """Work until SIGTERM."""
    clock = SystemClock()
    lease = os.environ["BERTH_LEASE"].rpartition("/")[2]
    token = int(os.environ["BERTH_FENCING_TOKEN"])

    def write(event: str) -> None:
        append(options.ledger, Entry(clock.boot_us(), event, options.cluster, lease, token, os.getpid()))

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    write(BEGIN)
    while signal.sigtimedwait([signal.SIGTERM], BEAT_SECONDS) is None:
        write(BEAT)
    write(END)
