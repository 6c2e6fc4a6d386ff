"""Mutants of Verilog, and what the benchmarks that count them and coverage find."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cases import TINY

from codesign_kernel.cosim.mutants import Mutant, block_pair, canonical, mutants, mutated, settings, with_switch
from codesign_kernel.rtl import generate_rtl

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

SOURCE = """\
module small (
    clk,
    rst,
    a,
    y
);
input clk;
input rst;
input signed [7:0] a;
output signed [7:0] y;
reg signed [7:0] y;
wire low;

assign low = (a[3:0] < 4);

always @(posedge clk) begin: step
    if (rst == 1) begin
        y <= 0;
    end
    else begin
        y <= (a + 1);
    end
end
endmodule
"""


def texts(line: str) -> list[str]:
    """What becomes of the statement ``line``."""
    return [mutant.after for mutant in mutants(SOURCE) if mutant.before == line]


class TestMutants:
    def test_every_operator_constant_and_condition(self) -> None:
        assert texts("assign low = (a[3:0] < 4);") == [
            "assign low = (a[3:0] <= 4);", "assign low = (a[3:0] >= 4);",
            "assign low = (a[3:0] < 5);", "assign low = (a[3:0] < 3);",
        ]  # fmt: skip
        assert texts("if (rst == 1) begin") == [
            "if (!(rst == 1)) begin", "if (rst != 1) begin", "if (rst == 2) begin", "if (rst == 0) begin",
        ]  # fmt: skip
        assert texts("y <= (a + 1);") == [
            "y <= ($unsigned(a) + 1);", "y <= (a - 1);", "y <= (a + 2);", "y <= (a + 0);", ";",
        ]  # fmt: skip
        assert texts("y <= 0;") == ["y <= 1;", ";"]
        assert len(mutants(SOURCE)) == 15
        assert [mutant.number for mutant in mutants(SOURCE)] == list(range(1, 16))
        assert {mutant.module for mutant in mutants(SOURCE)} == {"small"}

    def test_constants_with_a_width_keep_it(self) -> None:
        source = SOURCE.replace("(a + 1)", "{2'b11, a[5:0]}")
        assert [m.after for m in mutants(source) if m.kind == "constant" and "2'b" in m.after] == [
            "y <= {2'b0, a[5:0]};", "y <= {2'b10, a[5:0]};",
        ]  # fmt: skip

    def test_one_statement_to_a_line(self) -> None:
        short = "always @(posedge clk) if ((a < 4)) y <= f(a);\n  else y <= 0;\nend else if (b) begin"
        assert canonical(short).split("\n") == [
            "always @(posedge clk) begin", "    if ((a < 4)) begin", "        y <= f(a);", "    end", "end",
            "  else begin", "      y <= 0;", "  end", "end", "else if (b) begin",
        ]  # fmt: skip
        assert canonical(SOURCE) == SOURCE

    def test_one_declaration_to_a_line(self) -> None:
        text = """\
module small #(parameter WIDTH = 8, parameter DEPTH = 4) (
    input clk, rst,
        start,
    input signed [WIDTH-1:0] a, b,
    output reg y
);
wire c, d;
reg signed [3:0] e [0:DEPTH-1];
"""
        assert (
            canonical(text)
            == """\
module small #(
parameter WIDTH = 8,
parameter DEPTH = 4
) (
    input clk,
    input rst,
    input start,
    input signed [WIDTH-1:0] a,
    input signed [WIDTH-1:0] b,
    output reg y
);
wire c;
wire d;
reg signed [3:0] e [0:DEPTH-1];
"""
        )

    def test_ports_with_their_types_in_the_header(self) -> None:
        source = SOURCE.replace("    y\n);", "    output signed [7:0] y,\n    output low\n);")
        text = with_switch(source, "small", mutants(source))
        assert "output logic signed [7:0] y,\n    output logic low\n" in text

    def test_one_mutant_in_the_source(self) -> None:
        for mutant in mutants(SOURCE):
            before, after = SOURCE.split("\n"), mutated(SOURCE, mutant).split("\n")
            assert [n for n, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]] == [mutant.line]

    def test_all_of_them_in_one_source(self) -> None:
        text = with_switch(SOURCE, "small", mutants(SOURCE))
        assert sorted(map(int, re.findall(r"(?:== | )(\d+)(?: \?|:)(?!:)", text))) == list(range(1, 16))
        assert '"%m %h", y' in text

    def test_the_rtl_has_many(self) -> None:
        verilog = generate_rtl(TINY["2x2"]).verilog
        found = mutants(verilog)
        assert len(found) > 800
        assert {"assignment dropped", "condition negated", "constant", "signed dropped", "* becomes +"} <= {
            mutant.kind for mutant in found
        }
        lines = canonical(verilog).split("\n")
        assert all(lines[mutant.line].strip() == mutant.before != mutant.after for mutant in found)


@pytest.mark.yosys
class TestEquivalence:
    def proven(self, source: str) -> list[Mutant]:
        from equivalence import proven

        return proven(source, mutants(source))

    def test_only_what_changes_nothing_is_proven(self) -> None:
        """Of equal width, a sum is the same with and without a sign."""
        assert [mutant.after for mutant in self.proven(SOURCE)] == ["y <= ($unsigned(a) + 1);"]

    def test_a_sign_that_matters(self) -> None:
        source = SOURCE.replace("output signed [7:0] y", "output signed [9:0] y").replace(
            "reg signed [7:0]", "reg signed [9:0]"
        )
        assert self.proven(source) == []

    def test_a_module_with_parameters_is_compared_for_all_their_values(self) -> None:
        source = """\
module narrow #(parameter WIDTH = 8) (
    input [WIDTH-1:0] a,
    output y
);
assign y = (a < 5);
endmodule
"""
        use = "module top (\n    input [7:0] x\n);\nnarrow #(.WIDTH({})) narrow0 (.a(x));\n"
        loop = "for (index = 0; index < 3; index = index + 1) begin: narrows\n    " + use.split("\n")[3] + "\nend\n"
        always, unknown = use.format("2"), use.format("index + 1")
        assert settings(source, "narrow") == [{}]
        assert settings(source + always + loop.format(4), "narrow") == [{"WIDTH": "2"}, {"WIDTH": "4"}]
        assert settings(source + always + unknown, "narrow") == []
        # two bits are below four, five and six alike
        assert [m.kind for m in self.proven(source + always + "endmodule\n")] == [
            "< becomes <=",
            "constant",
            "constant",
        ]
        assert self.proven(source + always + loop.format(4) + "endmodule\n") == []
        assert self.proven(source + always + unknown + "endmodule\n") == []

    def test_an_assignment_of_a_loop_is_not_compared(self) -> None:
        source = SOURCE.replace(
            "assign low =", "for (index = 0; index < 1; index = index + 1) begin: lows\n    assign low ="
        ).replace("(a[3:0] < 4);", "(a[index] < 1);\nend")
        chosen = [mutant for mutant in mutants(source) if mutant.before.startswith("assign low")]
        assert chosen
        assert [block_pair(source, mutant) for mutant in chosen] == [None] * len(chosen)

    def test_a_process_as_a_module(self) -> None:
        mutant = next(mutant for mutant in mutants(SOURCE) if mutant.after == "y <= (a - 1);")
        gold, gate = block_pair(SOURCE, mutant) or ("", "")
        assert "input signed [7:0] a" in gold
        assert "output reg signed [7:0] y" in gold
        assert "(a + 1)" in gold
        assert gate == gold.replace("module gold", "module gate").replace("        y <= (a + 1)", "y <= (a - 1)")


def bench(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.verilator
@pytest.mark.yosys
def test_the_sample_kills_mutants(tmp_path: Path) -> None:
    """A small run of the benchmark: 60 mutants of the smallest machine."""
    out = tmp_path / "found.json"
    said = bench(
        "mutation.py", "--machines", "2x2-ws", "--mutants", "60", "--cases", "12", "--jobs", "2", "--out", str(out)
    )
    (result,) = json.loads(out.read_text())
    assert result["mutants"] == 60 == result["killed"] + len(result["equivalent"]) + len(result["survived"])
    assert result["killed"] / (60 - len(result["equivalent"])) == result["score"] > 0.85
    assert all(mutant["before"] in said for mutant in result["survived"])


@pytest.mark.slow
@pytest.mark.verilator
def test_the_sample_covers_lines(tmp_path: Path) -> None:
    """A module of nothing but instances and wires has no lines that run."""
    out = tmp_path / "found.json"
    bench("rtl_coverage.py", "--machines", "2x2-ws", "--cases", "8", "--out", str(out))
    found = json.loads(out.read_text())["2x2-ws"]
    hit, every = (sum(module.get("line", (0, 0))[at] for module in found.values()) for at in (0, 1))
    assert every > 150
    assert 0.9 < hit / every < 1  # the delay lines of the smallest array have one stage, and no loop
    assert all(module["toggle"][0] <= module["toggle"][1] for module in found.values())


def test_points_of_verilators_file() -> None:
    from rtl_coverage import points

    text = (
        "# SystemC::Coverage-3\n"
        "C '\x01f\x02core.v\x01l\x0212\x01t\x02branch\x01page\x02v_branch/core\x01o\x02if\x01h\x02TOP.core.a' 3\n"
        "C '\x01f\x02core.v\x01l\x0212\x01t\x02branch\x01page\x02v_branch/core__W8\x01o\x02if\x01h\x02TOP.core.b' 4\n"
        "C '\x01f\x02core.v\x01l\x027\x01t\x02toggle\x01page\x02v_toggle/core\x01o\x02x[1]:0->1\x01h\x02TOP.core' 0\n"
    )
    assert points(text) == {("core", "branch", 12, "if"): 7, ("core", "toggle", 7, "x[1]:0->1"): 0}
