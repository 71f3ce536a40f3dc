"""What the demo model has learned of how people behave: `python -m benchmarks.behaviours`."""
