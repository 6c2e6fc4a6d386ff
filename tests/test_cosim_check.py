"""What a co-simulation reports: of a simulator that is made to err, and of RTL that has been tampered with."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from cases import TINY, pair, random_inputs, random_layer
from emulator import Emulator

from codesign_kernel.cosim import CosimReport, check, find_simulator
from codesign_kernel.cosim.job import Answer, Job, Simulator
from codesign_kernel.cosim.timing import issue_cycles
from codesign_kernel.cost import evaluate
from codesign_kernel.lower import lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import RtlBundle, generate_rtl

A = TINY["2x2"]


class Interpreted(Simulator):
    """The interpreter of the instruction set as a simulator, with the cycles that the program promises.

    ``fault(runs so far, emulator, answer)`` is called after every run; ``without`` names a field of STORE that is
    taken as 0.
    """

    name = "interpreter"

    def __init__(self, fault=None, without: str = "", network: IntegerNetwork | None = None) -> None:
        self.fault, self.without, self.runs, self.network = fault, without, 0, network or pair()

    def missing(self) -> None:
        return None

    def run(self, bundle, job: Job, progress=None) -> Answer:
        program = lower(self.network, bundle.accelerator)
        emulator = Emulator(bundle.accelerator, job.words, job.memory.copy())
        store = emulator.store
        emulator.store = lambda **fields: store(**{**fields, **({self.without: 0} if self.without else {})})
        answer = Answer.blank(job)
        if job.boot:
            emulator.run(0)
            answer.boot_cycles = sum(program.cycles_of(i) for i in program.boot)
            answer.boot_issues = issue_cycles(program, program.boot)
        for index, data in enumerate(job.inputs):
            emulator.external[job.input_at] = data
            emulator.run(job.entry)
            answer.take(job, index, emulator.external, issue_cycles(program, program.main), program.cycles)
            self.runs += 1
            if self.fault is not None:
                self.fault(self.runs, index, answer)
        return answer


def checked(simulator: Simulator, a=A, network=None, vectors: int = 4, bundle=None, **changes) -> CosimReport:
    network = network or pair()
    cost = evaluate(network, a)
    x = random_inputs(np.random.default_rng(5), network, vectors)
    expected = {"cycles_model": cost.latency_cycle, "boot_cycles_model": cost.boot_cycle, **changes}
    return check(bundle or RtlBundle(a, "none", {}), network, x, simulator, **expected)


class TestReport:
    def test_all_is_well(self):
        report = checked(Interpreted())
        program = lower(pair(), A)
        assert report.passed
        assert (report.vectors, report.mismatches, report.cycle_mismatches) == (4, 0, 0)
        assert report.cycles_rtl == report.cycles_model == report.cycles_program == program.cycles
        assert report.boot_cycles_rtl == report.boot_cycles_model > 0
        assert (report.simulator, report.network, report.design) == ("interpreter", "pair", str(A))
        assert "4 inputs on interpreter: bits equal; cycles RTL" in str(report)
        body = json.loads(json.dumps(report.to_dict()))
        assert body["passed"] is True
        assert report.causes == program.causes
        assert str(report).endswith(f"MAC slots: {program.causes}")
        assert [layer["name"] for layer in body["causes"]["layers"]] == ["first", "second", "end"]
        assert body["first_mismatch"] is None
        assert "outputs" not in body

    def test_the_first_difference_is_found_where_it_begins(self):
        """Without ReLU the first layer lets negative values through, which its golden output has as 0."""
        report = checked(Interpreted(without="relu"))
        assert not report.passed
        assert 0 < report.mismatches <= 4
        found = report.first_mismatch
        assert (found.layer, found.expected) == ("first", 0)
        assert found.got < 0
        x = random_inputs(np.random.default_rng(5), pair(), 4)[found.vector : found.vector + 1]
        at = (0, found.channel, found.y, found.x)
        assert pair().layer_outputs(x)[0][at] == 0
        bare = IntegerNetwork("bare", (2, 3, 3), 0.1, 8, (replace(pair().layers[0], relu=False), pair().layers[1]))
        wrong = bare.layer_outputs(x)[0]
        assert wrong[at] == found.got
        assert at == tuple(np.argwhere(wrong != pair().layer_outputs(x)[0])[0])
        assert f"input {found.vector}, layer 'first', channel {found.channel}, position" in str(report)
        assert json.loads(json.dumps(report.to_dict()))["first_mismatch"]["layer"] == "first"

    def test_a_difference_that_does_not_come_back_is_shown_at_the_end(self):
        """One bit of the third input's result, in the first run only."""

        def fault(runs, index, answer):
            if runs == 3:
                answer.outputs[0][index, 1] ^= 4

        report = checked(Interpreted(fault))
        golden = pair().predict(random_inputs(np.random.default_rng(5), pair(), 4))
        assert (report.mismatches, report.cycle_mismatches, report.passed) == (1, 0, False)
        found = report.first_mismatch
        assert (found.vector, found.layer, found.channel, found.y, found.x) == (2, "second", 1, 0, 0)
        assert (found.expected, found.got) == (golden[2, 1], report.outputs[2, 1])
        assert (found.expected ^ found.got) & 255 == 4

    def test_a_position_at_the_end_of_a_map(self):
        layer = random_layer(np.random.default_rng(0), "map", 3, 2, (1, 1), 8)
        network = IntegerNetwork("map", (2, 3, 4), 1.0, 8, (layer,))

        def fault(runs, index, answer):
            if runs == 1:
                # channel 2 is the first lane of the second group of 12 words; the word of (1, 3) is its eighth
                answer.outputs[0][index, (12 + 7) * 2] ^= 1

        report = checked(Interpreted(fault, network=network), network=network)
        found = report.first_mismatch
        assert (found.vector, found.channel, found.y, found.x) == (0, 2, 1, 3)
        assert (found.expected ^ found.got) == 1

    def test_where_every_layer_cannot_be_saved_the_end_is_shown(self):
        """The instruction memory just takes the program: there is no room to save more."""
        words = len(lower(pair(), A).words)
        full = replace(A, instruction_kib=words * 224 / 8192)
        assert full.memory("instruction").depth == words
        report = checked(Interpreted(without="relu"), a=full)
        assert report.mismatches > 0
        assert report.first_mismatch.layer == "second"

    def test_one_run_of_another_length(self):
        def fault(runs, index, answer):
            if index == 1:
                answer.cycles[-1] += 3

        report = checked(Interpreted(fault))
        assert (report.mismatches, report.cycle_mismatches, report.passed) == (0, 1, False)
        assert report.cycles_rtl == report.cycles_model + 3 == report.cycles_program + 3

    def test_predictions_that_are_off(self):
        right = checked(Interpreted())
        wrong = checked(Interpreted(), cycles_model=right.cycles_model + 1)
        assert (wrong.cycle_mismatches, wrong.passed) == (4, False)
        assert wrong.cycles_rtl == wrong.cycles_program == wrong.cycles_model - 1
        assert not checked(Interpreted(), boot_cycles_model=right.boot_cycles_model - 1).passed


def victim() -> IntegerNetwork:
    """Four layers, each of which is the first to need something: the array; padding, ReLU and sums over taps; a stride;
    pooling."""
    rng = np.random.default_rng(3)
    layers = (
        random_layer(rng, "a", 2, 2, (1, 1), 8),
        random_layer(rng, "b", 2, 2, (2, 2), 8, padding=(1, 1), relu=True),
        random_layer(rng, "c", 2, 2, (1, 1), 8, stride=(2, 2)),
        random_layer(rng, "d", 3, 2, (2, 2), 8, pool=2),
    )
    # the first and the last layer are loud enough to be clipped at both ends, but for one channel of the last
    first, *inner, last = layers
    first = replace(first, multiplier=np.array([65535, 60001], np.int32), shift=np.array([20, 21], np.int32))
    scale, shift = last.multiplier.copy(), last.shift.copy()
    scale[:2], shift[:2] = 65535, 20
    return IntegerNetwork("victim", (2, 4, 4), 1.0, 8, (first, *inner, replace(last, multiplier=scale, shift=shift)))


#: name -> (pattern in the Verilog, what takes its place, the layer where it shows first; None: in the cycles only).
MUTANTS = {
    "clamp high": (r"\bq <= 127;", "q <= 126;", "a"),
    "clamp low": (r"\bq <= \(-128\);", "q <= (-100);", "a"),
    "clamp compares": (r"\brounded > 127\b", "rounded > 63", "a"),
    "rounding": (r"\+ 1\) >>> 1\)", "+ 0) >>> 1)", "a"),
    "logical shift": (r"\bproduct >>>", "product >>", "a"),
    "signed multiplier": (r"\$signed\(\{1'b0, multiplier\}\)", "$signed(multiplier)", "a"),
    "bias": (r"\(x \+ bias\)", "(x)", "a"),
    "ReLU always": (r"\(relu && ", "(1'b1 && ", "a"),
    "multiply": (r"total <= \(p_in \+", "total <= (p_in -", "a"),
    "deskew": (r"joined\[31:0\] = late;", "joined[31:0] = 0;", "a"),
    "padding": (r"assign ctl_live = .*;", "assign ctl_live = 1'b1;", "b"),
    "accumulate never": (r"keep <= \(ctl_accumulate \|\| later_tap\);", "keep <= 1'b0;", "b"),
    "weights in use change": (r"if \(swap\)", "if (1'b1)", "b"),
    "weights run over": (r"load_below <= \(load && \(!last\)\);", "load_below <= load;", "a"),
    "ReLU never": (r"\(relu && ", "(1'b0 && ", "b"),
    "stride": (r"window \+ x_step\)", "window + 1)", "c"),
    "maximum": (r"assign ctl_window_first = .*;", "assign ctl_window_first = 1'b1;", "d"),
    "drain of CONV": (r"('h5: \S+ = .*waited == )4", r"\g<1>5", None),
    "drain of STORE": (r"('h6: \S+ = .*waited == )4", r"\g<1>5", None),
    "drain of LOADQ": (r"('h4: \S+ = .*waited == )0", r"\g<1>1", None),
    # not of a SAVE, which stands still from there on
    "drain of a move": (r"(default: \S+ = .*waited == )1", r"\g<1>((op == 3) ? 1 : 2)", None),
    "count of cycles": (r"cycles <= \(cycles \+ 1\);", "cycles <= (cycles + 2);", None),
}
#: Which instruction each change of the cycles shows in first, and how much longer it seems.
LONGER = {
    "drain of CONV": ("CONV", 1),
    "drain of STORE": ("STORE", 1),
    "drain of LOADQ": ("LOADQ", 1),
    "drain of a move": ("LOADP", 1),
    "count of cycles": ("LOADP", 67),
}
QUICK = ("padding", "drain of CONV")


@pytest.mark.icarus
class TestMutants:
    @pytest.mark.parametrize(
        "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MUTANTS]
    )
    def test_is_caught(self, name):
        """One change in the Verilog: found, at the layer that first needs what was changed, or in the cycles."""
        pattern, instead, layer = MUTANTS[name]
        bundle = generate_rtl(A)
        verilog, count = re.subn(pattern, instead, bundle.verilog)
        # elements are of two kinds in each row
        assert count == {"weights in use change": 4, "multiply": 2}.get(name, 1)
        assert verilog != bundle.verilog
        mutant = bundle.with_verilog(verilog)
        report = checked(find_simulator("icarus"), network=victim(), vectors=2, bundle=mutant)
        assert not report.passed
        assert report.rtl_digest != bundle.digest
        if layer is None:
            assert (report.mismatches, report.first_mismatch, report.cycle_mismatches) == (0, None, 2)
            assert report.cycles_rtl != report.cycles_model == report.cycles_program
            found, (op, more) = report.first_instruction, LONGER[name]
            assert report.instruction_mismatches == 2 + (found.vector == -1)
            assert (found.instruction.split()[0], found.got) == (op, found.expected + more)
            assert f"{found.instruction} takes {found.expected} cycles, but took {found.got}" in str(report)
        else:
            assert (report.instruction_mismatches, report.first_instruction) == (0, None)
            assert report.mismatches > 0
            assert report.first_mismatch.layer == layer, report
            assert report.cycle_mismatches == 0

    def test_the_victim_is_well(self):
        report = checked(find_simulator("icarus"), network=victim(), vectors=2, bundle=generate_rtl(A))
        assert report.passed, report
        x = random_inputs(np.random.default_rng(5), victim(), 2)
        outputs = victim().layer_outputs(x)
        assert {-128, 127} <= set(outputs[0].flat)
        assert 127 in outputs[-1]

    def test_a_result_taken_too_early_is_caught_twice(self):
        """A drain that is too short: wrong values and too few cycles."""
        bundle = generate_rtl(A)
        pattern, _, _ = MUTANTS["drain of CONV"]
        verilog = re.sub(pattern, r"\g<1>0", bundle.verilog)
        mutant = bundle.with_verilog(verilog)
        report = checked(find_simulator("icarus"), network=victim(), vectors=2, bundle=mutant)
        assert report.mismatches > 0
        assert report.cycle_mismatches == 2
        assert report.cycles_rtl < report.cycles_model
