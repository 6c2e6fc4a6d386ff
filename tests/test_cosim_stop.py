"""Stopping a co-simulation: from another thread, in any part of it, and nothing of it stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cases import TINY, children, pair, random_inputs

import codesign_kernel as ck
from codesign_kernel.cosim.process import finished
from codesign_kernel.cosim.verilated import build
from codesign_kernel.errors import StoppedError

A = TINY["2x2"]


def inputs(count: int) -> np.ndarray:
    return random_inputs(np.random.default_rng(1), pair(), count)


def test_a_tool_and_its_children_are_ended(tmp_path: Path) -> None:
    """A shell that waits for a child, as a compiler's driver does; it is stopped once it has one."""
    before, told = children(), tmp_path / "child"
    with pytest.raises(StoppedError, match="stopped before its end"):
        finished(["sh", "-c", "sleep 314.159 & echo $! > part; mv part child; wait"], tmp_path, told.exists)
    assert children() <= before
    end = time.monotonic() + 60
    while lives(int(told.read_text())):
        assert time.monotonic() < end, "the child of the tool lives on"
        time.sleep(0.02)
    with pytest.raises(StoppedError):
        finished(["true"], tmp_path, lambda: True)
    assert finished(["sh", "-c", "echo told; exit 3"], tmp_path, lambda: False).returncode == 3


def lives(pid: int) -> bool:
    """A zombie, which whoever adopts it may leave lying for a while, does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop_after(calls: int) -> Callable[[], bool]:
    """Says so at the question number ``calls``, and ever after."""
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > calls

    return stop


@pytest.mark.parametrize(
    "simulator",
    [
        pytest.param("verilator", marks=pytest.mark.verilator),
        pytest.param("icarus", marks=pytest.mark.icarus),
        "myhdl",
        pytest.param("ghdl", marks=pytest.mark.ghdl),
    ],
)
def test_a_stopped_simulation_leaves_nothing(simulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before, threads = children(), threading.active_count()
    for calls in (0, 3):
        with pytest.raises(StoppedError):
            ck.cosimulate(A, pair(), inputs(50), simulator, stop=stop_after(calls))
        assert children() <= before
        assert threading.active_count() <= threads
        assert list(tmp_path.iterdir()) == []


def test_the_next_simulation_is_as_good_as_any() -> None:
    with pytest.raises(StoppedError):
        ck.cosimulate(A, pair(), inputs(3), "myhdl", stop=stop_after(5))
    assert ck.cosimulate(A, pair(), inputs(1), "myhdl", stop=lambda: False).passed


@pytest.mark.verilator
def test_a_build_that_is_stopped_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path))
    before = children()
    with pytest.raises(StoppedError):
        build(ck.generate_rtl(A), stop=stop_after(2))
    assert children() <= before
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith((".part", "core"))]


def test_two_threads_take_turns_with_myhdl() -> None:
    """MyHDL keeps its simulation in globals; a stop also ends waiting for them."""
    reports: list[ck.CosimReport] = []
    threads = [
        threading.Thread(target=lambda: reports.append(ck.cosimulate(A, pair(), inputs(1), "myhdl"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.passed for report in reports] == [True, True]
