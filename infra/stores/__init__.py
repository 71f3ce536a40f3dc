"""Durable stores: one a viewer partition and one for the live posts, each in a folder of its own."""

from infra.stores.ownership import StoreRefused
from infra.stores.partition import PartitionStore

__all__ = ["PartitionStore", "StoreRefused"]
