"""Feeds of a simulated world against its truth: `python -m benchmarks.world`."""
