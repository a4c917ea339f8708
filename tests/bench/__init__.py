"""Benchmarks: `python -m tests.bench` (or `make bench`) prints one table, side by side, with ratios."""
