"""Loaded by every local worker, by its name: what Dask has to say there below an error is said to nobody.

A worker's standard error is that of the process that started the cluster, which may be a notebook's kernel.
"""

from __future__ import annotations

import logging
from typing import Any


def dask_setup(worker: Any) -> None:
    """Of Dask: called in the worker's process before the worker connects to its scheduler."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
