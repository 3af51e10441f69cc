"""The measures behind docs/benchmarks.md, each a module that can be run alone; see build/bench.py."""
