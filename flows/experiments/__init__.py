"""Experiments afterwards: arms beside each other with intervals by viewer, and whether it is time to stop."""
