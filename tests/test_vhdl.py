"""The VHDL, run by GHDL: the same results and cycles as the golden model and the program promise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, pair, random_inputs, runnable

from codesign_kernel.lower import Program, lower
from codesign_kernel.rtl import RtlBundle, generate_rtl

#: The host and the external memory. What the memories hold before they are written is undefined here: U, not zero.
BENCH = """
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;

entity bench is
end entity;

architecture host of bench is
  type words is array (natural range <>) of unsigned(223 downto 0);
  type beats is array (natural range <>) of unsigned({bus} - 1 downto 0);
  constant program: words(0 to {last_word}) := ({words});
  signal clk, rst, start, busy, error, prog_we, ext_we: std_logic := '0';
  signal entry, prog_addr: unsigned(17 downto 0) := (others => '0');
  signal cycles, ext_addr: unsigned(31 downto 0);
  signal prog_data: unsigned(223 downto 0) := (others => '0');
  signal ext_wdata: unsigned({bus} - 1 downto 0);
  signal ext_rdata: unsigned({bus} - 1 downto 0) := (others => '0');
begin
  dut: entity work.{top} port map (clk, rst, start, entry, busy, cycles, error, prog_we, prog_addr, prog_data,
                                   ext_addr, ext_we, ext_wdata, ext_rdata);
  drive: process
    variable memory: beats(0 to {last_beat}) := ({memory});
    variable found: unsigned({bus} - 1 downto 0);
    variable text: line;

    procedure tick is
    begin
      found := (others => '0');
      if not is_x(std_logic_vector(ext_addr)) and ext_addr <= {last_beat} then
        if ext_we = '1' then
          memory(to_integer(ext_addr)) := ext_wdata;
        end if;
        found := memory(to_integer(ext_addr));
      end if;
      clk <= '1';
      wait for 1 ns;
      ext_rdata <= found;
      clk <= '0';
      wait for 1 ns;
    end procedure;

    procedure run(constant at: natural) is
    begin
      start <= '1';
      entry <= to_unsigned(at, 18);
      tick;
      start <= '0';
      while busy = '1' loop
        tick;
      end loop;
      assert error = '0' report "no instruction" severity failure;
      write(text, to_integer(cycles));
      writeline(output, text);
    end procedure;
  begin
    rst <= '1';
    tick;
    tick;
    rst <= '0';
    for i in program'range loop
      prog_we <= '1';
      prog_addr <= to_unsigned(i, 18);
      prog_data <= program(i);
      tick;
    end loop;
    prog_we <= '0';
{runs}
    for i in memory'range loop
      write(text, to_hstring(std_logic_vector(memory(i))));
      writeline(output, text);
    end loop;
    wait;
  end process;
end architecture;
"""


def simulated(bundle: RtlBundle, program: Program, image: np.ndarray, folder: Path) -> tuple[list[int], bytes]:
    """Cycles of the boot (where there is one) and of one inference, and the external memory afterwards."""
    size = bundle.accelerator.bus_bits // 8
    memory = np.zeros(program.memory_bytes, dtype=np.uint8)
    memory[: len(program.parameters)] = program.parameters
    memory[program.bytes_of(program.maps[-1])] = program.pack(image[None])[0]
    beats = [memory[at : at + size][::-1].tobytes().hex() for at in range(0, len(memory), size)]
    runs = ([0] if program.boot else []) + [program.entry]
    text = BENCH.format(
        bus=8 * size, top=bundle.top, last_word=len(program.words) - 1, last_beat=len(beats) - 1,
        words=", ".join(f'{i} => x"{word:056x}"' for i, word in enumerate(program.words)),
        memory=", ".join(f'{i} => x"{beat}"' for i, beat in enumerate(beats)),
        runs="\n".join(f"    run({at});" for at in runs),
    )  # fmt: skip
    bundle.write(folder)
    (folder / "bench.vhd").write_text(text)
    (package,) = folder.glob("pck_*.vhd")
    for command in (
        ["-a", "--std=08", package.name, f"{bundle.top}.vhd", "bench.vhd"],
        ["-e", "--std=08", "bench"],
        ["-r", "--std=08", "bench", "--ieee-asserts=disable", "--stop-time=200us"],
    ):
        done = subprocess.run(["ghdl", *command], cwd=folder, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr + done.stdout
    lines = done.stdout.split()
    cycles, rest = [int(line) for line in lines[: len(runs)]], lines[len(runs) :]
    assert len(rest) == len(beats)
    return cycles, b"".join(
        bytes.fromhex(beat)[::-1] if set(beat) <= set("0123456789ABCDEF") else b"?" * size for beat in rest
    )


@pytest.mark.ghdl
@pytest.mark.parametrize("name", ["2x2", "2x2 os", pytest.param("2x2 int16", marks=pytest.mark.slow)])
def test_runs_what_the_golden_model_says(name, tmp_path):
    """Square arrays write every lane of a word, so that nothing undefined is ever used."""
    a = MACHINES[name]
    bundle = generate_rtl(a)
    programs = [*runnable(a, 11, 4)]
    if a.weight_bits == 8:
        programs.insert(0, lower(pair(), a))
    for number, program in enumerate(programs):
        (image,) = random_inputs(np.random.default_rng(number), program.network, 1)
        folder = tmp_path / str(number)
        cycles, memory = simulated(bundle, program, image, folder)
        boot = [sum(program.cycles_of(i) for i in program.boot)] if program.boot else []
        assert cycles == [*boot, program.cycles]
        place = program.maps[len(program.network.layers) - 1]
        data = np.frombuffer(memory[program.bytes_of(place)], dtype=np.uint8)
        want = program.network.predict(image[None])
        assert np.array_equal(program.unpack(data[None], place).reshape(want.shape), want)
