"""Fencing for targets: a write by a holder that has lost its lease is refused, however late it comes.

For whoever *stores* what a lease protects: SQL databases (`PostgresFence`, `MariadbFence`, `SqliteFence`),
object stores (`fenced_put`), and services behind HTTP (`FencedAsgi`, `FencedWsgi`). Each remembers the
highest fencing token it has seen and refuses any lower one; an equal one is the same tenure, which may write
many times. Depends on no clock and on no lease server.
"""

from berth.client.fencing.asgi import FencedAsgi
from berth.client.fencing.errors import Contended, NotInTransaction, StaleToken
from berth.client.fencing.marks import Marks, SqlMarks
from berth.client.fencing.objects import Objects, Version, fenced_put
from berth.client.fencing.sql import MariadbFence, PostgresFence, SqlFence, SqliteFence
from berth.client.fencing.stamp import HEADER, Stamp
from berth.client.fencing.wsgi import FencedWsgi

__all__ = [
    "HEADER",
    "Contended",
    "FencedAsgi",
    "FencedWsgi",
    "MariadbFence",
    "Marks",
    "NotInTransaction",
    "Objects",
    "PostgresFence",
    "SqlFence",
    "SqlMarks",
    "SqliteFence",
    "StaleToken",
    "Stamp",
    "Version",
    "fenced_put",
]
