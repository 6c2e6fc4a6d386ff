"""Little spoken data, and a process that makes it: this file loads no torch, which a process would wait for."""

from __future__ import annotations

import os
from typing import Any

from codesign_kernel.optimize.keywords import load_keywords

SMALL: dict[str, Any] = {"words": ("yes", "stop"), "utterances": (40, 8, 12, 10), "voices": 2}


def load_in_process(cache: str, ready: Any, sums: Any) -> None:
    """When all are ``ready``, make the data in ``cache`` and put their sum into ``sums``."""
    os.environ["CODESIGN_CACHE_DIR"] = cache
    ready.wait(60)
    sums.put(float(abs(load_keywords(**SMALL).all_x).sum()))
