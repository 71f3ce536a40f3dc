"""Dataflows: one file each, every one readable from top to bottom."""
