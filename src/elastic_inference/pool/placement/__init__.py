"""Which host and device an accelerator goes to, who goes first of those that wait, and what to move to free a device.

Pure: nothing here starts a process, asks a host or looks at a clock.
"""

from elastic_inference.pool.placement.choosing import Policy, choose, place
from elastic_inference.pool.placement.defragmentation import Fragmentation, Move, defragment, fragmentation
from elastic_inference.pool.placement.table import Table
from elastic_inference.pool.placement.waiting import PoolRoom, serve_line

__all__ = [
    "Fragmentation",
    "Move",
    "Policy",
    "PoolRoom",
    "Table",
    "choose",
    "defragment",
    "fragmentation",
    "place",
    "serve_line",
]
