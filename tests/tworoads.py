"""A small block on three roads: in MyHDL's own simulator, and as the Verilog and the VHDL that MyHDL makes of it.

Inputs of a block are its signals by any name, outputs those whose name begins with ``y``, its clock ``clk``.
"""

from __future__ import annotations

import random
import subprocess
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from myhdl import Signal, StopSimulation, block, delay, instance

Make = Callable[[], tuple[Any, Mapping[str, Any]]]
NAME = "dut"


def _widths(ports: Mapping[str, Any]) -> dict[str, int]:
    return {name: len(s) if s._type is not bool else 1 for name, s in ports.items()}


def vectors(ports: Mapping[str, Any], count: int = 60) -> list[dict[str, int]]:
    """Inputs to try: the ends of every range first, then random ones."""
    rng = random.Random(1)
    inputs = {n: s for n, s in ports.items() if not n.startswith("y") and n != "clk"}
    ends = {n: ((s.min or 0), (s.max or 2) - 1) for n, s in inputs.items()}
    picks = [
        [low, high, 0 if low <= 0 <= high else low, min(low + 1, high), max(high - 1, low)]
        for low, high in ends.values()
    ]
    tried = [dict(zip(ends, values, strict=True)) for values in zip(*picks, strict=True)]
    for _ in range(count):
        corner = rng.random() < 0.5
        tried.append(
            {
                n: rng.choice([low, high, 0]) if corner and low <= 0 else rng.randint(low, high)
                for n, (low, high) in ends.items()
            }
        )
    return tried


def _bits(value: Any, width: int) -> str:
    return format(int(value) & ((1 << width) - 1), f"0{width}b")


def in_myhdl(make: Make, tried: list[dict[str, int]]) -> list[str]:
    """The outputs after every clock, in bits."""
    made, ports = make()
    widths, seen = _widths(ports), []
    clk = ports.get("clk", Signal(bool(0)))

    @block
    def bench():
        dut = made(**ports)

        @instance
        def drive():
            for values in tried:
                for name, value in values.items():
                    ports[name].next = value
                yield delay(1)
                clk.next = 1
                yield delay(1)
                clk.next = 0
                yield delay(1)
                seen.append(" ".join(_bits(s.val, widths[n]) for n, s in ports.items() if n.startswith("y")))
            raise StopSimulation

        return dut, drive

    test = bench()
    try:
        test.run_sim(quiet=1)
    finally:
        if test.sim is not None and not test.sim._finished:
            test.quit_sim()
    return seen


def convert(make: Make, language: str, folder: Path, **options: Any) -> Path:
    """The file that MyHDL writes."""
    made, ports = make()
    extra = {"testbench": False} if language == "Verilog" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made(**ports).convert(hdl=language, path=str(folder), name=NAME, no_myhdl_header=True, **extra, **options)
    return folder / (f"{NAME}.v" if language == "Verilog" else f"{NAME}.vhd")


def _call(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=20, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise Rejected((done.stderr or done.stdout).strip()[:300])
    return done.stdout


class Rejected(Exception):
    """A tool does not accept the converted text."""


def in_verilog(make: Make, tried: list[dict[str, int]], folder: Path) -> list[str]:
    """The same from Icarus Verilog and the converted text."""
    convert(make, "Verilog", folder)
    ports = make()[1]
    widths = _widths(ports)
    lines = ["module bench;"]
    for name, width in widths.items():
        lines.append(f"{'wire' if name.startswith('y') else 'reg'} [{width - 1}:0] {name};")
    lines += [f"{NAME} dut({', '.join(f'.{n}({n})' for n in ports)});", "initial begin"]
    if "clk" in ports:
        lines.append("clk = 0;")
    outputs = [n for n in ports if n.startswith("y")]
    for values in tried:
        lines += [f"{n} = {widths[n]}'b{_bits(v, widths[n])};" for n, v in values.items()]
        lines.append("#1 clk = 1; #1 clk = 0; #1" if "clk" in ports else "#1")
        lines.append(f'$display("{" ".join(["%b"] * len(outputs))}", {", ".join(outputs)});')
    (folder / "bench.v").write_text("\n".join([*lines, "$finish; end", "endmodule", ""]))
    _call(["iverilog", "-g2012", "-o", "bench.vvp", "bench.v", f"{NAME}.v"], folder)
    return _call(["vvp", "-n", "bench.vvp"], folder).strip().splitlines()


def in_vhdl(make: Make, tried: list[dict[str, int]], folder: Path) -> list[str]:
    """The same from GHDL and the converted text."""
    convert(make, "VHDL", folder)
    ports = make()[1]
    widths = _widths(ports)
    kinds = {
        n: "std_logic" if s._type is bool else f"{'signed' if s.min < 0 else 'unsigned'}({widths[n] - 1} downto 0)"
        for n, s in ports.items()
    }
    lines = [
        "library ieee; use ieee.std_logic_1164.all; use ieee.numeric_std.all; use std.textio.all;",
        "entity bench is end entity;",
        "architecture test of bench is",
        *[f"signal {n}: {kind};" for n, kind in kinds.items()],
        f"begin dut: entity work.{NAME} port map ({', '.join(f'{n} => {n}' for n in ports)});",
        "process variable l: line; begin",
    ]
    if "clk" in ports:
        lines.append("clk <= '0';")
    outputs = [n for n in ports if n.startswith("y")]
    shown = ' & " " & '.join(
        f"to_string({n})" if kinds[n] == "std_logic" else f"to_string(std_logic_vector({n}))" for n in outputs
    )
    for values in tried:
        for n, v in values.items():
            quote = "'" if kinds[n] == "std_logic" else '"'
            lines.append(f"{n} <= {quote}{_bits(v, widths[n])}{quote};")
        lines.append("wait for 1 ns;")
        if "clk" in ports:
            lines.append("clk <= '1'; wait for 1 ns; clk <= '0'; wait for 1 ns;")
        lines.append(f"write(l, string'({shown})); writeline(output, l);")
    (folder / "bench.vhd").write_text("\n".join([*lines, "wait; end process;", "end architecture;", ""]))
    package = next(folder.glob("pck_*.vhd")).name
    _call(["ghdl", "-a", "--std=08", package, f"{NAME}.vhd", "bench.vhd"], folder)
    out = _call(["ghdl", "--elab-run", "--std=08", "bench", "--ieee-asserts=disable"], folder)
    return out.strip().splitlines()
