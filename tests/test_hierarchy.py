"""Every kind of block is a module: its header, its parameters, loops for what repeats, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cases import TINY
from myhdl import ConversionError, Signal, always, always_comb

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.rtl.array import delay_line
from codesign_kernel.rtl.bits import signed, unsigned
from codesign_kernel.rtl.compact import compact
from codesign_kernel.rtl.hierarchy import Conversion, block
from codesign_kernel.rtl.modules import sources
from codesign_kernel.rtl.repeats import Statement, loop, runs


def modules(text: str, keyword: str) -> list[str]:
    return re.findall(rf"^{keyword} (\w+)", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_a_large_array_takes_no_more_text(dataflow):
    bundle = generate_rtl(Accelerator.systolic(32, 32, dataflow))
    assert bundle.verilog.count("\n") < 1500
    for text in (bundle.verilog, bundle.vhdl):
        assert max(map(len, text.splitlines())) <= 200
    names = modules(bundle.verilog, "module")
    assert names[0] == bundle.top
    assert modules(bundle.vhdl, "entity")[-1] == bundle.top
    assert sorted(names) == sorted(modules(bundle.vhdl, "entity")) == sorted(set(names))
    assert {f"{name}.v" for name in names} == {name for name in bundle.files if name.endswith(".v")}
    assert all(name.startswith("codesign_") for name in names)
    kinds = {name.removeprefix("codesign_") for name in names}
    assert {"lane", "requantise", "ram", "delay_line", "skew", "memories", "mover"} < kinds
    assert {"ws": {"pe", "array_row"}, "os": {"element", "stationary_row"}}[dataflow] < kinds


def test_headers_say_what_a_module_does():
    bundle = generate_rtl(TINY["2x2"])
    for name, text in bundle.files.items():
        if name.endswith(".v"):
            assert re.match(r"// \w", text), name
    assert "// load: take w_in as the next weight" in bundle.files["codesign_pe_top.v"]
    assert len(re.findall(r"^-- .*\n(?:--.*\n)*entity ", bundle.vhdl, re.MULTILINE)) == len(
        modules(bundle.vhdl, "entity")
    )


def test_memories_and_delay_lines_have_parameters():
    bundle = generate_rtl(TINY["2x2"])
    for name in ("DEPTH", "WIDTH"):
        assert f"parameter {name} = " in bundle.files["codesign_ram.v"]
        assert re.search(rf"entity codesign_ram is\n +generic \([^)]*\b{name}: natural", bundle.vhdl)
    larger = generate_rtl(Accelerator.systolic(4, 4))
    assert "parameter CYCLES = " in larger.files["codesign_delay_line.v"]
    assert "parameter WIDTH = " in larger.files["codesign_delay_line.v"]


def test_memories_are_told():
    a = TINY["2x2"]
    bundle = generate_rtl(a)
    assert sorted(words for _, words in bundle.memories) == sorted(memory.depth for memory in a.memories)
    assert ("ram0.mem", a.memory("accumulator").depth) in bundle.memories


@block
def twice(clk, d, q):
    """Two lines of different length behind one another."""
    between = Signal(unsigned(4))
    return delay_line(clk, d, between, 2), delay_line(clk, between, q, 5)


def converted(top: object, folder: Path, language: str = "Verilog", **arguments: object) -> dict[str, str]:
    conversion = Conversion(language, folder)
    conversion.run(top, arguments)
    return {source.name: source.text for source in sources(conversion.modules, "top", language, "ram")[0]}


def test_one_module_serves_kinds_that_differ_in_numbers(tmp_path):
    ports = {"clk": Signal(bool(0)), "d": Signal(unsigned(4)), "q": Signal(unsigned(4))}
    found = converted(twice, tmp_path, **ports)
    assert list(found) == ["delay_line", "top"]
    assert "reg [3:0] stages [0:CYCLES-1];" in found["delay_line"]
    assert "delay_line #(.CYCLES(2)) delay_line0 (.clk(clk), .d(d), .q(between));" in found["top"]
    assert "delay_line #(.CYCLES(5)) delay_line1 (.clk(clk), .d(between), .q(q));" in found["top"]
    assert found == converted(twice, tmp_path, **ports)
    vhdl = converted(twice, tmp_path, "VHDL", **ports)
    assert "delay_line1: entity work.delay_line generic map (CYCLES => 5) port map (" in vhdl["top"]


@block
def reads_signed(values, y):
    """Reads one of a list of signed signals."""
    one = values[1]

    @always_comb
    def read():
        y.next = one < 0

    return read


@block
def counts(clk, q, unread):
    """Drives an output that nobody reads."""

    @always(clk.posedge)
    def count():
        unread.next = not unread
        q.next = unread

    return count


@block
def around(clk, q):
    """Leaves an output of what is in it unread."""
    unread = Signal(bool(0))
    return counts(clk, q, unread)


def test_an_output_that_nobody_reads_is_no_port(tmp_path):
    found = converted(around, tmp_path, clk=Signal(bool(0)), q=Signal(bool(0)))
    assert "output" in found["counts"]
    assert re.search(r"^reg unread;", found["counts"], re.MULTILINE)
    assert "counts counts0 (.clk(clk), .q(q));" in found["top"]
    assert ".unread" not in found["top"]


def test_a_process_reads_no_part_of_a_signed_vector(tmp_path):
    @block
    def outer(y):
        """Hands a list on."""
        values = [Signal(signed(4)) for _ in range(2)]
        return reads_signed(values, y)

    with pytest.raises(ConversionError, match="a process reads one, which is one of a list of signed signals"):
        converted(outer, tmp_path, y=Signal(bool(0)))
    assert Conversion.active is None


def test_ports_of_a_type_share_a_declaration(tmp_path):
    """In the order of the block's arguments at the top, by type in every other module."""
    ports = {"clk": Signal(bool(0)), "d": Signal(unsigned(4)), "go": Signal(bool(0)), "q": Signal(unsigned(4))}

    @block
    def inner(clk, d, go, q):
        """Takes d when go is high."""

        @always(clk.posedge)
        def take():
            if go:
                q.next = d

        return take

    @block
    def outer(clk, d, go, q):
        """Hands everything on."""
        return inner(clk, d, go, q)

    found = converted(outer, tmp_path, **ports)
    assert "    input clk,\n    input [3:0] d,\n    input go,\n    output [3:0] q\n" in found["top"]
    assert "    input clk, go,\n    input [3:0] d,\n    output reg [3:0] q\n" in found["inner"]
    vhdl = converted(outer, tmp_path, "VHDL", **ports)
    assert "        clk, go: in std_logic;\n        d: in unsigned(3 downto 0);\n" in vhdl["inner"]


def test_else_with_nothing_but_an_if_is_a_chain():
    before = """\
if (rst == 1) begin
    y <= 0;
end
else begin
    if (a) begin
        y <= 1;
        z <= 2;
    end
    else begin
        ends <= 3;
    end
end
"""
    chain = "if (rst == 1) y <= 0;\nelse if (a) begin\n    y <= 1;\n    z <= 2;\nend else ends <= 3;\n"
    assert compact(before) == chain
    # what follows the if is in the else, too
    more = before.replace("        ends <= 3;\n    end\n", "        ends <= 3;\n    end\n    ends <= 4;\n")
    assert "else begin\n    if (a) begin\n" in compact(more)


def test_statements_in_step_become_a_loop():
    alike = [Statement("y", f"assign y[{4 * n + 3}:{4 * n}] = x[{9 - n}];") for n in range(4)]
    other = Statement("z", "assign z[3:0] = x[1];")
    assert runs([*alike[:2], other, *alike[2:]]) == [[0, 1, 3, 4], [2]]
    assert runs(alike[:2]) == [[0], [1]]
    assert loop(alike, "ys", verilog=True) == (
        "for (index = 0; index < 4; index = index + 1) begin: ys\n"
        "    assign y[4*index + 3:4*index] = x[9 - index];\nend"
    )
