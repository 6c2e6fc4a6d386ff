"""What may go wrong while the RTL is made and run: a clear error each, nothing stale in the cache, no process left.

Elsewhere: unknown and missing simulators, a compiler that fails, two builds of one source at once
(test_cosim_refusals.py); a killed or interrupted vvp, GHDL and MyHDL (test_cosim.py); an interrupted verification
(test_verify.py); a conversion that fails or takes too long (test_rtl.py).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import TINY, children, pair, random_inputs, random_layer

from codesign_kernel.cache import cached_folder
from codesign_kernel.cosim import verilated
from codesign_kernel.errors import CapacityError, InfeasibleDesignError, SimulatorError
from codesign_kernel.lower import lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import RtlBundle
from codesign_kernel.session import cosimulate

A = TINY["2x2"]
_TOY = RtlBundle(A, "top", {"top.v": "module top(input clk); endmodule"})


class TestTooLarge:
    """Refused before anything is converted, built or run."""

    @pytest.fixture(autouse=True)
    def nothing_is_made(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path / "cache"))
        yield
        assert not (tmp_path / "cache").exists()

    def test_a_program_beyond_the_instruction_memory(self):
        words = len(lower(pair(), A).words)
        short = replace(A, instruction_kib=A.instruction_kib * (words - 1) / A.memory("instruction").depth)
        told = f"the instruction memory holds the program, but {words} instructions do not fit {words - 1}"
        with pytest.raises(CapacityError, match=told):
            lower(pair(), short)
        with pytest.raises(InfeasibleDesignError, match=r"instruction_kib = .* is .* KiB too small; make it at least"):
            cosimulate(short, pair(), random_inputs(np.random.default_rng(0), pair(), 1), "myhdl")

    @pytest.mark.parametrize(("filters", "channels"), [(4096, 1), (1, 4096)])
    def test_a_layer_wider_than_any_memory(self, filters, channels):
        wide = random_layer(np.random.default_rng(0), "wide", filters, channels, (1, 1), 8)
        network = IntegerNetwork("w", (channels, 1, 1), 0.1, 8, (wide,))
        with pytest.raises(CapacityError, match="the activation memory holds one tile, but 'wide' needs 2049 words"):
            lower(network, A)
        with pytest.raises(InfeasibleDesignError, match="the activation memory holds one tile of layer 'wide'"):
            cosimulate(A, network, np.zeros((1, channels, 1, 1), np.int8), "myhdl")


def _fake_compiler(folder: Path, script: str) -> str:
    """A folder for PATH whose g++ runs ``script`` where it would compile; asked for its version, it tells."""
    real = shutil.which("g++")
    folder.mkdir()
    program = folder / "g++"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--version*) exec {real} "$@";; esac\n{script}\nexec {real} "$@"\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.verilator
class TestCompiler:
    @pytest.mark.parametrize(
        ("script", "told"),
        [
            ("echo 'no space left' >&2; exit 1", r"g\+\+ failed with exit status 1: no space left"),
            ("kill -9 $$", r"g\+\+ failed with exit status -9"),
            ("echo half > core.so; echo half > model.o; kill -9 $$", r"g\+\+ failed with exit status -9"),
        ],
    )
    def test_what_failed_once_builds_the_next_time(self, script, told, tmp_path, monkeypatch):
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setattr(verilated, "HARNESS", 'extern "C" int answer() { return 42; }\n')
        monkeypatch.setattr(verilated, "_build_runtime", lambda *_: None)  # half a minute; nothing is run
        before = children()
        with monkeypatch.context() as broken:
            broken.setenv("PATH", _fake_compiler(tmp_path / "bin", script))
            with pytest.raises(SimulatorError, match=told):
                verilated.build(_TOY)
        assert children() <= before
        assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
        library = verilated.build(_TOY)
        assert library.is_file()
        assert [path.name for path in library.parent.iterdir()] == ["core.so"]

    def test_the_second_model_has_the_header_precompiled(self, tmp_path, monkeypatch):
        """The compiler takes it, with the options of models: it is not the header's text that the third one sees."""
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path))
        told = '#ifndef TOLD\n#define TOLD "nothing told"\n#endif\nextern "C" const char answer[] = TOLD;\n'
        monkeypatch.setattr(verilated, "HARNESS", told)

        def build_runtime(folder, *_):  # the real one takes half a minute; no model is run
            (folder / "model.h").write_text('#define TOLD "told first"\n')

        monkeypatch.setattr(verilated, "_build_runtime", build_runtime)
        answers = []
        for number in range(3):
            library = verilated.build(_TOY.with_verilog(f"{_TOY.verilog}// {number}\n"))
            answers += re.findall(rb"nothing told|told first|told later", library.read_bytes())
            if number == 1:
                (verilated.runtime() / "model.h").write_text('#define TOLD "told later"\n')
        assert answers == [b"nothing told", b"told first", b"told first"]
        assert [path.name for path in tmp_path.glob("verilator-runtime/*/*.gch")] == ["model.h.gch"]
        assert not list(tmp_path.glob("verilator-runtime/*/once"))


class TestCacheOfTheDead:
    def test_a_builder_killed_in_the_middle_leaves_no_product(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path))
        script = (
            "import os, signal\n"
            "from codesign_kernel.cache import cached_folder\n"
            "def build(folder):\n"
            "    (folder / 'product').write_text('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "cached_folder('kind', 'content', build)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], check=False)
        assert done.returncode == -signal.SIGKILL
        (left,) = (tmp_path / "kind").iterdir()
        made = cached_folder("kind", "content", lambda folder: (folder / "product").write_text("whole") and None)
        assert (made / "product").read_text() == "whole"
        assert left.exists()  # it may belong to a build that still runs
        old = time.time() - 2 * 86_400
        os.utime(left, (old, old))
        cached_folder("kind", "other content", lambda folder: None)
        assert not left.exists()


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestConversion:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_an_end_in_the_middle_leaves_no_process(self, how):
        script = (
            "import signal\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background has it ignored
            "from codesign_kernel.accelerator import Accelerator\n"
            "from codesign_kernel.rtl import generate_rtl\n"
            "generate_rtl(Accelerator.systolic(64, 64))\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not (converters := _descendants(parent.pid)):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(1)
            parent.send_signal(how)
            assert parent.wait(60) != 0
            deadline = time.monotonic() + 60
            while any(map(_alive, converters)):
                assert time.monotonic() < deadline, "the conversion goes on"
                time.sleep(0.05)
        finally:
            parent.kill()
            parent.wait()
            for pid in converters:
                if _alive(pid):
                    os.kill(pid, signal.SIGKILL)
