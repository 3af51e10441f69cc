"""berth decides who may act across clusters, edge nodes and processes, for a bounded time."""
