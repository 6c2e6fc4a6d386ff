"""The generated VHDL in GHDL, under a bench of its own that reads its vectors from files and writes what it finds."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from codesign_kernel.accelerator.types import ADDRESS_BITS, INSTRUCTION_BITS
from codesign_kernel.cache import scratch_folder
from codesign_kernel.cosim.job import COUNTER, Answer, Job, Progress, Simulator, Stop, check_stop
from codesign_kernel.cosim.process import ASKED_S, call, nothing
from codesign_kernel.cosim.testbench import hex_lines
from codesign_kernel.cosim.waves import write_window
from codesign_kernel.errors import SimulatorError
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.generate import RtlBundle

Array = np.ndarray[Any, Any]
_STANDARD = "--std=08"
#: Begins every line of the bench; what GHDL itself reports lies between them.
_MARK = "= "
#: The clock of the bench: 1 ns high, 1 ns low.
_CYCLE_FS = 2_000_000
_LARGEST_NATURAL = (1 << 31) - 1
#: A line of the bench -> what went wrong; the bench then stops.
_TROUBLE = {
    "busy": "a run ends within {limit} cycles, but ghdl is still busy; is the program damaged?",
    "illegal": "ghdl stopped at a word that is no instruction; is the program damaged?",
    "beyond": "ghdl wrote to external memory that the program does not have; is the program damaged?",
}
#: What of the inside the bench sees: GHDL 2.0 knows no external names.
_PROBE = f"""
library ieee;
use ieee.numeric_std.all;

package probe is
  signal counter: unsigned({ADDRESS_BITS - 1} downto 0);
end package;
"""
#: The host and the external memory. Results go to standard output, a line each.
_BENCH = """
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;

use work.probe.all;

entity bench is
end entity;

architecture host of bench is
{signals}
begin
  dut: entity work.{top} port map ({ports});
  drive: process
    type beats is array (natural range <>) of std_logic_vector({bus} - 1 downto 0);
    file program: text open read_mode is "program.hex";
    file contents: text open read_mode is "memory.hex";
    file inputs: text open read_mode is "inputs.hex";
    variable memory: beats(0 to {beats} - 1);
    variable found: std_logic_vector({bus} - 1 downto 0);
    variable word: std_logic_vector({word} - 1 downto 0);
    variable source, told: line;
    variable well: boolean := true;
    variable writing: boolean := false;
    variable waits, left: natural := 0;

    procedure tell(constant what: string) is
    begin
      write(told, "{mark}" & what);
      writeline(output, told);
      flush(output);
    end procedure;

    procedure tick is
    begin
      found := (others => '0');
      if is_x(std_logic_vector(ext_addr)) or ext_addr >= {beats} then
        if ext_we = '1' then
          tell("beyond");
          well := false;
        end if;
      else
        if ext_we = '1' then
          memory(to_integer(ext_addr)) := std_logic_vector(ext_wdata);
        end if;
        found := memory(to_integer(ext_addr));
      end if;
      clk <= '1';
      wait for 1 ns;
      ext_rdata <= unsigned(found);
      -- a load's first word comes so many cycles late, and the end of a SAVE so many after its last one
      if ext_request = '1' then
        writing := ext_write = '1';
        left := to_integer(ext_beats);
        waits := 0 when writing else {latency};
      end if;
      if ext_we = '1' then
        left := left - 1;
        if left = 0 then
          waits := {latency};
        end if;
      end if;
      ext_ready <= '1' when writing or waits = 0 else '0';
      ext_idle <= '1' when not writing or (left = 0 and waits = 0) else '0';
      waits := maximum(waits - 1, 0);
      clk <= '0';
      wait for 1 ns;
    end procedure;

    procedure run(constant at: natural) is
      variable ticks: natural := 0;
      variable last: unsigned(counter'range);
    begin
      start <= '1';
      entry <= to_unsigned(at, entry'length);
      tick;
      start <= '0';
      last := counter;
      while well and busy = '1' loop
        tick;
        ticks := ticks + 1;
        if counter /= last then
          last := counter;
          tell("issue " & to_string(to_integer(cycles)));
        end if;
        if well and ticks > {limit} then
          tell("busy");
          well := false;
        end if;
      end loop;
      if well and error = '1' then
        tell("illegal");
        well := false;
      elsif well then
        tell("cycles " & to_string(to_integer(cycles)));
      end if;
    end procedure;

    procedure show(constant first, last: natural) is
    begin
      for i in first to last loop
        tell(to_hstring(memory(i)));
      end loop;
    end procedure;
  begin
    for i in memory'range loop
      readline(contents, source);
      hread(source, memory(i));
    end loop;
    rst <= '1';
    tick;
    tick;
    rst <= '0';
    for i in 0 to {last_word} loop
      readline(program, source);
      hread(source, word);
      prog_we <= '1';
      prog_addr <= to_unsigned(i, prog_addr'length);
      prog_data <= unsigned(word);
      tick;
    end loop;
    prog_we <= '0';
{boot}
    for i in 1 to {runs} loop
      for k in {first_input} to {last_input} loop
        readline(inputs, source);
        hread(source, memory(k));
      end loop;
      exit when not well;
      if i = 1 then
        tell("start " & to_string(now / 1 ns));
      end if;
      run({entry});
      exit when not well;
{outputs}
    end loop;
    wait;
  end process;
end architecture;
"""


def _bench_text(bundle: RtlBundle, job: Job) -> str:
    ports = Ports(bundle.accelerator).as_dict()
    signals = [
        f"  signal {name}: unsigned({len(signal) - 1} downto 0) := (others => '0');"
        if len(signal) > 1
        else f"  signal {name}: std_logic := '0';"
        for name, signal in ports.items()
    ]
    size = bundle.accelerator.bus_bits // 8
    return _BENCH.format(
        top=bundle.top, mark=_MARK, bus=8 * size, word=INSTRUCTION_BITS,
        signals="\n".join(signals), ports=", ".join(ports),
        beats=len(job.memory) // size, last_word=len(job.words) - 1, runs=len(job.inputs), entry=job.entry,
        latency=bundle.accelerator.memory_latency,
        limit=min(job.limit, _LARGEST_NATURAL), boot="    run(0);" if job.boot else "",
        first_input=job.input_at.start // size, last_input=job.input_at.stop // size - 1,
        outputs="\n".join(f"      show({at.start // size}, {at.stop // size - 1});" for at in job.outputs_at),
    )  # fmt: skip


def _core_text(bundle: RtlBundle) -> str:
    """The VHDL of the accelerator, its program counter led out.

    Memories hold U before they are written, which shows whoever reads too early. Only in an array with banks they start
    at zero: there a lane that no result fills is silenced by a zero weight, and in simulation U times zero is no zero.
    """
    body, end, rest = bundle.vhdl.rpartition("end architecture")
    text = f"{body}work.probe.counter <= {COUNTER};\n\n{end}{rest}"
    if bundle.accelerator.rows == bundle.accelerator.cols:
        return text
    zeros = r"\1 := (others => (others => '0'));"
    return re.sub(r"^(signal mem: t_array_mem);", zeros, text, flags=re.MULTILINE)


def _write_sources(bundle: RtlBundle, job: Job, folder: Path) -> list[str]:
    """Everything that GHDL reads; returns the names of what it analyses, in order."""
    size = bundle.accelerator.bus_bits // 8
    package = next(name for name in bundle.files if name.endswith(".vhd") and name != f"{bundle.top}.vhd")
    texts = {
        "probe.vhd": _PROBE,
        package: bundle.files[package],
        f"{bundle.top}.vhd": _core_text(bundle),
        "bench.vhd": _bench_text(bundle, job),
        "program.hex": "".join(f"{word:0{INSTRUCTION_BITS // 4}x}\n" for word in job.words),
        "memory.hex": hex_lines(job.memory, size),
        "inputs.hex": hex_lines(job.inputs, size),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [name for name in texts if name.endswith(".vhd")]


@contextmanager
def _started(command: list[str], folder: Path, stop: Stop | None) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone afterwards, whatever happens, and at once when ``stop`` says so; what it complains of is
    in ``complaints``."""
    with open(folder / "complaints", "w") as complaints:
        process = subprocess.Popen(
            command, cwd=folder, stdin=nothing(), stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        ended = threading.Event()

        def watch(stop: Stop) -> None:
            while not ended.wait(ASKED_S):
                if stop():
                    process.kill()
                    return

        # who reads the process waits for its next line, which may be seconds away
        watcher = threading.Thread(target=watch, args=(stop,), name="codesign ghdl") if stop is not None else None
        try:
            if watcher is not None:
                watcher.start()
            yield process
        finally:
            ended.set()
            process.kill()
            process.wait()
            if watcher is not None:
                watcher.join()
            assert process.stdout is not None
            process.stdout.close()


class _Reader:
    """The lines of the bench, which say what is wrong where something is."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, limit: int, stop: Stop | None) -> None:
        self.process, self.folder, self.limit, self.stop = process, folder, limit, stop

    def line(self) -> str:
        assert self.process.stdout is not None
        said = []
        while (text := self.process.stdout.readline()) and not text.startswith(_MARK):
            said.append(text.strip())
        text = text.removeprefix(_MARK).strip()
        if text in _TROUBLE:
            raise SimulatorError(_TROUBLE[text].format(limit=self.limit))
        if not text:
            check_stop(self.stop)
            status = self.process.wait()
            said += (self.folder / "complaints").read_text().strip().splitlines()
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise SimulatorError(f"ghdl died with {how}{': ' + said[0] if said else ''}")
        return text

    def run(self) -> tuple[list[int], int]:
        """When the instructions of one run issued, and its cycles."""
        issues = []
        while (text := self.line()).startswith("issue "):
            issues.append(int(text.removeprefix("issue ")))
        return issues, int(text.removeprefix("cycles "))

    def started(self) -> int:
        """The simulation's time (fs) when the first inference begins."""
        return 1_000_000 * int(self.line().removeprefix("start "))

    def beats(self, count: int) -> Array:
        """``count`` words of the bus as bytes."""
        lines = [self.line() for _ in range(count)]
        try:
            return np.frombuffer(b"".join(bytes.fromhex(text)[::-1] for text in lines), dtype=np.uint8)
        except ValueError as error:
            raise SimulatorError("the VHDL wrote bits that are neither 0 nor 1; is the source damaged?") from error


class GhdlSimulator(Simulator):
    """The generated VHDL in GHDL: slower than MyHDL, and the only one that runs this language."""

    name = "ghdl"

    def missing(self) -> str | None:
        return None if shutil.which("ghdl") else "ghdl not found on PATH; install Debian's ghdl"

    def run(self, bundle: RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        answer, size = Answer.blank(job), bundle.accelerator.bus_bits // 8
        memory = job.memory.copy()
        with scratch_folder("ghdl") as folder:
            sources = _write_sources(bundle, job, folder)
            if progress is not None:
                progress(0, len(job.inputs), "analysing the VHDL with GHDL")
            call(["ghdl", "-a", _STANDARD, *sources], folder, "GHDL", job.stop)
            # --elab-run serves the backends that make a program as well as the one that keeps it in memory
            command = ["ghdl", "--elab-run", _STANDARD, "bench", "--ieee-asserts=disable"]
            if job.trace is not None:
                command.append("--vcd=raw.vcd")
            with _started(command, folder, job.stop) as process:
                reader = _Reader(process, folder, job.limit, job.stop)
                if job.boot:
                    issues, answer.boot_cycles = reader.run()
                    answer.boot_issues = tuple(issues)
                for index in range(len(job.inputs)):
                    if index == 0:
                        started = reader.started()
                    issues, cycles = reader.run()
                    for at in job.outputs_at:
                        memory[at] = reader.beats((at.stop - at.start) // size)
                    answer.take(job, index, memory, issues, cycles)
                    if progress is not None:
                        progress(index + 1, len(job.inputs), "inputs simulated by GHDL")
                process.wait()
            if job.trace is not None:
                write_window(folder / "raw.vcd", started, _CYCLE_FS, job.trace)
        return answer
