"""The texts that :mod:`codesign_kernel.cosim.testbench` fills in: two benches that do the same, and how to run them."""

VERILOG = """\
// Self-checking test bench of {top}, {accelerator}:
// {network}, {vectors} vectors. Run it in the folder of its .hex files; see README.md.
`timescale 1ns/1ns

module tb_{top};
  localparam VECTORS = {vectors};
  localparam WORDS = {words}, CLEAR_WORDS = {clear_words};    // instructions
  localparam BEATS = {beats};    // words of the external memory
  localparam INPUT_AT = {input_at}, INPUT_BEATS = {input_beats};
  localparam OUTPUT_AT = {output_at}, OUTPUT_BEATS = {output_beats};
  localparam ENTRY = {entry}, CYCLES = {cycles};    // of one inference
  localparam BOOT = {boot}, BOOT_CYCLES = {boot_cycles};    // loads the weights once, from address 0 on
  localparam CLEAR_CYCLES = {clear_cycles};
  localparam LIMIT = {limit};    // cycles after which a run is given up
  localparam LATENCY = {latency};    // cycles to a load's first word, and from a SAVE's last one to its end

  reg [{word}-1:0] clear_words [0:CLEAR_WORDS-1];
  reg [{word}-1:0] program_words [0:WORDS-1];
  reg [{bus}-1:0] memory [0:BEATS-1];
  reg [{bus}-1:0] inputs [0:VECTORS*INPUT_BEATS-1];
  reg [{bus}-1:0] expected [0:VECTORS*OUTPUT_BEATS-1];
  reg [{bus}-1:0] mask [0:OUTPUT_BEATS-1];    // ones where an output word holds a channel
  reg [{bus}-1:0] got, found;
{signals}
  integer errors, ticks, vector, i;
  reg dead;
  reg writing;
  reg [{external}-1:0] left, waits;    // words until the SAVE is done; cycles until the memory goes on

  {top} dut({ports});

  // one clock: the memory samples before the edge and answers after it
  task tick;
    begin
      found = 0;
      if (ext_addr < BEATS) begin
        if (ext_we) memory[ext_addr] = ext_wdata;
        found = memory[ext_addr];
      end else if (ext_we) begin
        $display("write to address %0d, outside of the external memory", ext_addr);
        errors = errors + 1;
      end
      clk = 1;
      #1;
      ext_rdata = found;
      if (ext_request) begin
        writing = ext_write;
        left = ext_beats;
        waits = ext_write ? 0 : LATENCY;
      end
      if (ext_we) begin
        left = left - 1;
        if (left == 0) waits = LATENCY;
      end
      ext_ready = writing || waits == 0;
      ext_idle = !writing || (left == 0 && waits == 0);
      if (waits != 0) waits = waits - 1;
      clk = 0;
      #1;
    end
  endtask

  task write_word(input integer at, input [{word}-1:0] value);
    begin
      prog_we = 1;
      prog_addr = at[{address}-1:0];
      prog_data = value;
      tick;
      prog_we = 0;
    end
  endtask

  // number: of the vector; -1 is the boot, -2 the clearing of the activation memory
  task run(input integer number, input integer at, input integer want);
    begin
      if (!dead) begin
        start = 1;
        entry = at[{address}-1:0];
        tick;
        start = 0;
        ticks = 0;
        while (busy && ticks <= LIMIT) begin
          tick;
          ticks = ticks + 1;
        end
        if (ticks > LIMIT) begin
          $display("run %0d: still busy after %0d cycles", number, LIMIT);
          errors = errors + 1;
          dead = 1;
        end else begin
          if (error !== 0) begin
            $display("run %0d: stopped at a word that is no instruction", number);
            errors = errors + 1;
          end
          if (cycles !== want) begin
            $display("run %0d: expected %0d cycles, got %0d", number, want, cycles);
            errors = errors + 1;
          end
        end
      end
    end
  endtask

  initial begin
    $readmemh("clear.hex", clear_words);
    $readmemh("program.hex", program_words);
    $readmemh("memory.hex", memory);
    $readmemh("inputs.hex", inputs);
    $readmemh("expected.hex", expected);
    $readmemh("mask.hex", mask);
    errors = 0;
    dead = 0;
    writing = 0;
    left = 0;
    waits = 0;
    rst = 1;
    tick;
    tick;
    rst = 0;
    for (i = 0; i < CLEAR_WORDS; i = i + 1) write_word(i, clear_words[i]);
    run(-2, 0, CLEAR_CYCLES);
    for (i = 0; i < WORDS; i = i + 1) write_word(i, program_words[i]);
    if (BOOT != 0) run(-1, 0, BOOT_CYCLES);
    for (vector = 0; vector < VECTORS; vector = vector + 1) begin
      for (i = 0; i < INPUT_BEATS; i = i + 1) memory[INPUT_AT + i] = inputs[vector*INPUT_BEATS + i];
      run(vector, ENTRY, CYCLES);
      for (i = 0; i < OUTPUT_BEATS; i = i + 1) begin
        got = memory[OUTPUT_AT + i] & mask[i];
        if (got !== expected[vector*OUTPUT_BEATS + i] && !dead) begin
          $display("run %0d: address %0d: expected %h, got %h", vector, OUTPUT_AT + i,
                   expected[vector*OUTPUT_BEATS + i], got);
          errors = errors + 1;
        end
      end
    end
    if (errors == 0) begin
      $display("PASS %0d vectors, %0d cycles each", VECTORS, CYCLES);
      $finish;
    end else begin
      $display("FAIL %0d errors", errors);
`ifdef __ICARUS__
      $finish_and_return(1);
`else
      $fatal(0);
`endif
    end
  end
endmodule
"""

VHDL = """\
-- Self-checking test bench of {top}, {accelerator}:
-- {network}, {vectors} vectors. Run it in the folder of its .hex files; see README.md.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;

entity tb_{top} is
end entity;

architecture check of tb_{top} is
  constant VECTORS: natural := {vectors};
  constant WORDS: natural := {words};  -- instructions
  constant CLEAR_WORDS: natural := {clear_words};
  constant BEATS: natural := {beats};  -- words of the external memory
  constant INPUT_AT: natural := {input_at};
  constant INPUT_BEATS: natural := {input_beats};
  constant OUTPUT_AT: natural := {output_at};
  constant OUTPUT_BEATS: natural := {output_beats};
  constant FIRST: natural := {entry};  -- entry of an inference
  constant RUN_CYCLES: natural := {cycles};
  constant BOOT: natural := {boot};  -- loads the weights once, from address 0 on
  constant BOOT_CYCLES: natural := {boot_cycles};
  constant CLEAR_CYCLES: natural := {clear_cycles};
  constant LIMIT: natural := {limit};  -- cycles after which a run is given up
  constant LATENCY: natural := {latency};  -- cycles to a load's first word, and from a SAVE's last one to its end
{signals}
begin
  dut: entity work.{top} port map ({ports});

  check: process
    type beat_array is array (natural range <>) of std_logic_vector({bus} - 1 downto 0);
    file clear_file: text open read_mode is "clear.hex";
    file program_file: text open read_mode is "program.hex";
    file memory_file: text open read_mode is "memory.hex";
    file inputs_file: text open read_mode is "inputs.hex";
    file expected_file: text open read_mode is "expected.hex";
    file mask_file: text open read_mode is "mask.hex";
    variable memory: beat_array(0 to BEATS - 1);
    variable mask: beat_array(0 to OUTPUT_BEATS - 1);  -- ones where an output word holds a channel
    variable found, got, want: std_logic_vector({bus} - 1 downto 0);
    variable source, told: line;
    variable errors: natural := 0;
    variable dead: boolean := false;
    variable writing: boolean := false;
    variable left, waits: integer := 0;  -- words until the SAVE is done; cycles until the memory goes on

    procedure tell(constant what: string) is
    begin
      write(told, what);
      writeline(output, told);
    end procedure;

    procedure wrong(constant what: string) is
    begin
      tell(what);
      errors := errors + 1;
    end procedure;

    -- one clock: the memory samples before the edge and answers after it
    procedure tick is
    begin
      found := (others => '0');
      if is_x(std_logic_vector(ext_addr)) or ext_addr >= BEATS then
        if ext_we = '1' then
          wrong("write to address " & to_hstring(ext_addr) & " (hex), outside of the external memory");
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
      if ext_request = '1' then
        writing := ext_write = '1';
        left := to_integer(ext_beats);
        waits := 0 when writing else LATENCY;
      end if;
      if ext_we = '1' then
        left := left - 1;
        if left = 0 then
          waits := LATENCY;
        end if;
      end if;
      ext_ready <= '1' when writing or waits = 0 else '0';
      ext_idle <= '1' when not writing or (left = 0 and waits = 0) else '0';
      waits := maximum(waits - 1, 0);
      clk <= '0';
      wait for 1 ns;
    end procedure;

    procedure load(file words_file: text; constant count: natural) is
      variable value: std_logic_vector({word} - 1 downto 0);
    begin
      for i in 0 to count - 1 loop
        readline(words_file, source);
        hread(source, value);
        prog_we <= '1';
        prog_addr <= to_unsigned(i, prog_addr'length);
        prog_data <= unsigned(value);
        tick;
      end loop;
      prog_we <= '0';
    end procedure;

    -- number: of the vector; -1 is the boot, -2 the clearing of the activation memory
    procedure run(constant number: integer; constant at, cycles_wanted: natural) is
      variable ticks: natural := 0;
    begin
      if dead then
        return;
      end if;
      start <= '1';
      entry <= to_unsigned(at, entry'length);
      tick;
      start <= '0';
      while busy = '1' and ticks <= LIMIT loop
        tick;
        ticks := ticks + 1;
      end loop;
      if ticks > LIMIT then
        wrong("run " & to_string(number) & ": still busy after " & to_string(LIMIT) & " cycles");
        dead := true;
        return;
      end if;
      if error /= '0' then
        wrong("run " & to_string(number) & ": stopped at a word that is no instruction");
      end if;
      if is_x(std_logic_vector(cycles)) then
        wrong("run " & to_string(number) & ": cycles are unknown");
      elsif cycles /= cycles_wanted then
        wrong("run " & to_string(number) & ": expected " & to_string(cycles_wanted) & " cycles, got "
              & to_string(to_integer(cycles)));
      end if;
    end procedure;
  begin
    for i in memory'range loop
      readline(memory_file, source);
      hread(source, memory(i));
    end loop;
    for i in mask'range loop
      readline(mask_file, source);
      hread(source, mask(i));
    end loop;
    rst <= '1';
    tick;
    tick;
    rst <= '0';
    load(clear_file, CLEAR_WORDS);
    run(-2, 0, CLEAR_CYCLES);
    load(program_file, WORDS);
    if BOOT /= 0 then
      run(-1, 0, BOOT_CYCLES);
    end if;
    for vector in 0 to VECTORS - 1 loop
      for i in 0 to INPUT_BEATS - 1 loop
        readline(inputs_file, source);
        hread(source, memory(INPUT_AT + i));
      end loop;
      run(vector, FIRST, RUN_CYCLES);
      for i in 0 to OUTPUT_BEATS - 1 loop
        readline(expected_file, source);
        hread(source, want);
        got := memory(OUTPUT_AT + i) and mask(i);
        if got /= want and not dead then
          wrong("run " & to_string(vector) & ": address " & to_string(OUTPUT_AT + i) & ": expected " & to_hstring(want)
                & ", got " & to_hstring(got));
        end if;
      end loop;
    end loop;
    if errors = 0 then
      tell("PASS " & to_string(VECTORS) & " vectors, " & to_string(RUN_CYCLES) & " cycles each");
    else
      tell("FAIL " & to_string(errors) & " errors");
      report "the test bench failed" severity failure;
    end if;
    wait;
  end process;
end architecture;
"""

MAKEFILE = """\
# How to run the test bench; each ends with PASS, or with FAIL and an error.
VERILOG = {verilog}
# what this Verilator needs besides, such as -CFLAGS -std=c++20
VERILATOR_FLAGS =
VHDL = {vhdl}

iverilog:
	iverilog -g2005 -o tb.vvp tb_{top}.v $(VERILOG)
	vvp -n tb.vvp

verilator:
	verilator --binary $(VERILATOR_FLAGS) --top-module tb_{top} tb_{top}.v $(VERILOG)
	obj_dir/Vtb_{top}

ghdl:
	ghdl -a --std=08 $(VHDL) tb_{top}.vhd
	ghdl --elab-run --std=08 tb_{top} --ieee-asserts=disable

modelsim-verilog:
	vlib work
	vlog -sv tb_{top}.v $(VERILOG)
	vsim -c -onfinish exit -do "onbreak {{quit -f -code 1}}; run -all; quit -f" tb_{top}

modelsim-vhdl:
	vlib work
	vcom -2008 $(VHDL) tb_{top}.vhd
	vsim -c -do "onbreak {{quit -f -code 1}}; run -all; quit -f" tb_{top}

clean:
	rm -rf tb.vvp obj_dir work *.cf *.o tb_{top}

.PHONY: iverilog verilator ghdl modelsim-verilog modelsim-vhdl clean
"""

README = """\
# Test bench of {top}

{network} on {accelerator}.

`make iverilog`, `make verilator` (5.0 or newer), `make ghdl`, `make modelsim-verilog` or `make modelsim-vhdl`, in this
folder. The bench runs {vectors} vectors; each takes {cycles} cycles. It ends with one line, `PASS {vectors} vectors,
{cycles} cycles each`, or with `FAIL k errors` after one line for each, and then the simulator ends with an error.

| file | what it holds, a word a line |
|---|---|
| `clear.hex` | a program that fills the activation memory with zeros, so that no unknown value is multiplied by zero |
| `program.hex` | the instruction memory |
| `memory.hex` | the external memory, words of {bus} bits: parameters from address 0 on |
| `inputs.hex` | {vectors} inputs of {input_beats} words, each written to address {input_at} before its run |
| `expected.hex` | {vectors} results of {output_beats} words, each read from address {output_at} after its run |
| `mask.hex` | ones where a word of a result holds a channel; the other bits may have any value |
"""
