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

    def write(event: str) -> None:
        who = (options.cluster, options.lease, options.token, os.getpid())
        append(options.ledger, Entry(clock.boot_us(), event, *who))

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    write(BEGIN)
    while signal.sigtimedwait([signal.SIGTERM], BEAT_SECONDS) is None:
        write(BEAT)
    write(END)
