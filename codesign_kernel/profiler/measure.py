"""Wall time of each operator of a module on its own device, from ``torch.profiler``."""

from __future__ import annotations

import statistics
from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function

from codesign_kernel.profiler.trace import Recorder, trace

#: Passes that are timed, after one that is not; the median of them is reported.
PASSES = 3
_MARK = "codesign_operator_"


class _Timed(Recorder):
    """Marks each operator for the profiler by its position in the trace."""

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        with record_function(f"{_MARK}{len(self.events)}"):
            return func(*args, **kwargs)


def wall_us(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], atomic: Collection[str]) -> list[float]:
    """Microseconds of each event of ``trace(model, args, kwargs, atomic)``, the median of ``PASSES`` passes.

    On CUDA the time of its kernels, else the time on the host between its start and its end.
    """
    cuda = any(p.is_cuda for p in model.parameters())
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    trace(model, args, kwargs, atomic)
    passes: list[dict[int, float]] = []
    count = 0
    for _ in range(PASSES):
        with torch.profiler.profile(activities=activities) as profiler:
            count = len(trace(model, args, kwargs, atomic, _Timed).events)
        times: dict[int, float] = {}
        for event in profiler.events():
            if event.name.startswith(_MARK) and str(event.device_type).endswith("CPU"):
                number = int(event.name.removeprefix(_MARK))
                times[number] = times.get(number, 0.0) + (event.device_time_total if cuda else event.cpu_time_total)
        passes.append(times)
    return [statistics.median(times.get(number, 0.0) for times in passes) for number in range(count)]
