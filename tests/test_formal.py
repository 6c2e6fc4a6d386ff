"""Proofs at reduced widths: what a lane does to a sum, as converted by MyHDL, equals its specification for every input.

The specifications are written here by hand, in arithmetic that is wide enough for every value.
"""

from __future__ import annotations

import re

import pytest
from myhdl import Signal, intbv
from proof import counterexample

from codesign_kernel.rtl import lanes
from codesign_kernel.rtl.bits import signed, unsigned, wrapping

pytestmark = pytest.mark.yosys

ACC, MULTIPLIER, DATA, SHIFT = 6, 4, 4, 4

#: clamp(((x + bias) * multiplier + (1 << s - 1)) >> s) with s = shift + 1, in the RTL's three stages. Assumed is what a
#: checked network guarantees: the biased sum is in range.
REQUANTISE = f"""
module check(input clk, input signed [{ACC - 1}:0] x, input signed [{ACC - 1}:0] bias,
             input [{MULTIPLIER - 1}:0] multiplier, input [{SHIFT - 1}:0] shift);
  wire signed [{DATA - 1}:0] q;
  dut rtl(.clk(clk), .x(x), .bias(bias), .multiplier(multiplier), .shift(shift), .q(q));
  wire signed [31:0] sum = x + bias;
  always @(*) assume(sum >= -{1 << (ACC - 1)} && sum < {1 << (ACC - 1)});
  reg signed [31:0] biased, product, expected;
  wire signed [31:0] s = shift + 1;
  wire signed [31:0] factor = {{28'd0, multiplier}};
  wire signed [31:0] rounded = (product + (32'sd1 <<< (s - 1))) >>> s;
  always @(posedge clk) begin
    biased <= sum;
    product <= biased * factor;
    expected <= rounded > {(1 << (DATA - 1)) - 1} ? {(1 << (DATA - 1)) - 1}
              : rounded < -{1 << (DATA - 1)} ? -{1 << (DATA - 1)} : rounded;
  end
  always @(*) assert(q == expected);
endmodule
"""


@pytest.fixture
def requantise(tmp_path, monkeypatch) -> str:
    monkeypatch.setattr(lanes, "MULTIPLIER_BITS", MULTIPLIER)
    x, bias, q = Signal(signed(ACC)), Signal(signed(ACC)), Signal(signed(DATA))
    multiplier, shift = Signal(unsigned(MULTIPLIER)), Signal(unsigned(SHIFT))
    return verilog(lanes.requantise(Signal(bool(0)), x, bias, multiplier, shift, q), tmp_path)


def verilog(block, folder) -> str:
    block.convert(hdl="Verilog", path=str(folder), name="dut", testbench=False, no_myhdl_header=True)
    return (folder / "dut.v").read_text()


def test_the_requantiser_is_its_specification(requantise, tmp_path):
    assert counterexample([requantise, REQUANTISE], "check", 3, tmp_path) is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"\+ 1\) >>> 1", "+ 0) >>> 1"),  # rounds down
        (r"> 7\)", "> 8)"),  # one value wraps around
        (r"< \(-8\)\)", "< (-9))"),
        (r"<= \(x \+ bias\)", "<= x"),  # no bias
        (r"\{1'b0, multiplier\}", "{multiplier}"),  # a multiplier with a sign
        (r"product >>> \$signed\(\{1'b0, shift\}\)", "product >> shift"),
    ],
)
def test_a_wrong_requantiser_is_refuted(right, wrong, requantise, tmp_path):
    mutant, count = re.subn(right, wrong, requantise)
    assert count == 1, requantise
    found = counterexample([mutant, REQUANTISE], "check", 3, tmp_path)
    assert found is not None
    assert found["q"] != found["expected"] & (1 << DATA) - 1


def test_too_few_cycles_prove_nothing(requantise, tmp_path):
    """The pipeline holds anything at first: the proof is of three clocks, no fewer."""
    assert counterexample([requantise, REQUANTISE], "check", 2, tmp_path) is not None


def test_rectify_is_its_specification(tmp_path):
    q, u = Signal(signed(DATA)), Signal(unsigned(DATA))
    rtl = verilog(lanes.rectify(q, Signal(bool(0)), u), tmp_path)
    law = f"""
    module check(input signed [{DATA - 1}:0] q, input relu);
      wire [{DATA - 1}:0] u;
      dut rtl(.q(q), .relu(relu), .u(u));
      wire signed [{DATA - 1}:0] value = u;
      always @(*) assert(value == (relu && q < 0 ? 0 : q));
    endmodule"""
    assert counterexample([rtl, law], "check", 0, tmp_path) is None
    mutant = rtl.replace("(q < 0)", "(q < 1)").replace("u = 0", "u = 1")
    assert mutant != rtl
    assert counterexample([mutant, law], "check", 0, tmp_path) is not None


def test_accumulate_is_its_specification(tmp_path):
    stored, sums, total = Signal(unsigned(2 * ACC)), Signal(unsigned(2 * ACC)), Signal(intbv(0)[ACC + 1 :])
    rtl = verilog(lanes.accumulate(stored, sums, Signal(bool(0)), total, ACC, 2 * ACC), tmp_path)
    law = f"""
    module check(input [{2 * ACC - 1}:0] stored, input [{2 * ACC - 1}:0] sums, input keep);
      wire [{ACC}:0] total;
      dut rtl(.stored(stored), .sums(sums), .keep(keep), .total(total));
      wire [31:0] old = (stored >> {ACC}) & {(1 << ACC) - 1};
      wire [31:0] new = (sums >> {ACC}) & {(1 << ACC) - 1};
      always @(*) assert({{{31 - ACC}'d0, total}} == (keep ? old + new : new));
    endmodule"""
    assert counterexample([rtl, law], "check", 0, tmp_path) is None


def test_pooling_takes_the_largest_or_the_sum_since_the_first(tmp_path):
    """By one step: of what is valid the first value, the larger one, or the sum, which wraps around."""
    value, best = Signal(signed(DATA)), Signal(wrapping(DATA))
    flags = [Signal(bool(0)) for _ in range(3)]
    rtl = verilog(lanes.pool(Signal(bool(0)), value, *flags, best), tmp_path)
    law = f"""
    module check(input clk, input signed [{DATA - 1}:0] value, input first, input valid, input adding);
      wire signed [{DATA - 1}:0] best;
      dut rtl(.clk(clk), .value(value), .first(first), .valid(valid), .adding(adding), .best(best));
      reg signed [{DATA - 1}:0] before, given, sum;
      reg begun, counts, adds;
      always @(posedge clk) begin
        before <= best; given <= value; sum <= best + value; begun <= first; counts <= valid; adds <= adding;
      end
      always @(*) assert(best == (!counts ? before : begun ? given : adds ? sum : given > before ? given : before));
    endmodule"""
    assert counterexample([rtl, law], "check", 1, tmp_path) is None
    mutant = rtl.replace("> best", "< best")
    assert mutant != rtl
    assert counterexample([mutant, law], "check", 1, tmp_path) is not None
