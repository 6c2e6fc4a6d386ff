"""Random networks on random accelerators, compared in full; and what is said of the first that differs."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from cases import children

import codesign_kernel as ck
from codesign_kernel import cli
from codesign_kernel.accelerator.types import DATA_BITS, DATAFLOWS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.session import verification, verify
from codesign_kernel.session.cases import at_its_ends, end_inputs, random_accelerator, random_layer

#: Every dataflow in every precision.
KINDS = len(DATAFLOWS) * len(DATA_BITS)
SLOW_SIMULATORS = [
    pytest.param("icarus", marks=pytest.mark.icarus),
    pytest.param("ghdl", marks=pytest.mark.ghdl),
    "myhdl",
]


@pytest.mark.slow
def test_every_kind_of_accelerator_is_drawn_and_lawful():
    """Every dataflow and precision in turn; sides that differ; memories of which some hold one tile and no more."""
    for small in (False, True):
        drawn = [verification._machine(0, number, small) for number in range(3 * KINDS)]
        assert {(a.dataflow, a.weight_bits) for a in drawn} == {(d, b) for d in DATAFLOWS for b in DATA_BITS}
        assert sum(a.rows != a.cols for a in drawn) >= KINDS
        assert {a.rows > a.cols for a in drawn} == {True, False}
        assert len({a.bus_bits for a in drawn}) > 1
        assert drawn == [verification._machine(0, number, small) for number in range(3 * KINDS)]


def test_every_width_of_weights_is_drawn():
    drawn = [verification._machine(0, number, True) for number in range(4 * KINDS)]
    kinds = {(d, b, m) for d in DATAFLOWS for b in DATA_BITS for m in (0, 2, 4, 8) if m < b}
    assert {(a.dataflow, a.weight_bits, a.min_weight_bits) for a in drawn} == kinds


def test_the_front_door_has_it():
    assert ck.verify is verify
    assert ck.VerifyReport is verification.VerifyReport


def test_ends_are_ends():
    rng = np.random.default_rng(0)
    layer = at_its_ends(rng, random_layer(rng, "ends", 60, 5, (3, 2), 4), 4)
    network = IntegerNetwork("ends", (5, 4, 4), 1.0, 4, (layer,))
    assert set(layer.weight.flat) == {-8, 7}
    assert set(layer.multiplier) == {1, 65535}
    assert layer.bias.max() == 2**31 - 1 - 30 * 8 * 8
    assert len(set(layer.shift)) > 20
    mixed, low = end_inputs(rng, network)
    assert set(mixed.flat) == {-8, 7}
    assert set(low.flat) == {-8}


@pytest.mark.slow
@pytest.mark.verilator
@pytest.mark.timeout(300)
def test_two_hundred_networks_on_verilator():
    report = verify(200, 0, "verilator", machines=2 * KINDS)
    assert report.failure is None, str(report.failure)
    assert report.passed
    assert (report.agreed, report.vectors, len(report.accelerators)) == (200, 600, 2 * KINDS)
    assert report.instructions > 200 * 3 * 10
    common = {"padding", "pool", "relu", "linear", "stride", "dilation", "groups", "tiles", "blocks", "banks"}
    common |= {"add", "average pool", "max pool", "batch", "narrow weights"}
    cuts = {"chunks", "spilled map", "streamed weights", "resident weights"}
    assert all(report.met[name] >= 20 for name in common | cuts), report.met
    assert report.met["packing"] >= 5
    assert report.met["passes"] >= 10  # half of the arrays have none


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SLOW_SIMULATORS)
def test_thirty_networks_on_the_others(simulator):
    report = verify(30, 1, simulator, machines=KINDS)
    assert report.failure is None, str(report.failure)
    assert (report.agreed, report.passed) == (30, True)
    assert all(report.met[name] >= 1 for name in ("padding", "pool", "relu", "stride", "tiles", "blocks", "banks"))


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SLOW_SIMULATORS)
def test_some_networks_on_the_others(simulator):
    told: list[tuple[int, int, str]] = []
    report = verify(4, 2, simulator, machines=2, progress=lambda *now: told.append(now))
    assert report.failure is None, str(report.failure)
    assert (report.agreed, report.vectors, len(report.accelerators)) == (4, 4, 2)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (4, 4, f"networks verified on {simulator}")
    assert sum("building" in message for _, _, message in told) == 2
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


def test_equal_seeds_give_equal_cases():
    a = random_accelerator(np.random.default_rng(0), "ws", 8, small=True)
    (one, x), (same, y), (other, _) = (verification.drawn_case(seed, 5, a, True) for seed in (1, 1, 2))
    assert one.network.digest == same.network.digest != other.network.digest
    assert np.array_equal(x, y)


@pytest.mark.icarus
class TestFailure:
    """The RTL with one change, so that cases differ."""

    @pytest.fixture
    def mutant(self, monkeypatch):
        def change(pattern: str, instead: str) -> None:
            def generate(design):
                bundle = generate_rtl(design)
                verilog, count = re.subn(pattern, instead, bundle.verilog)
                assert count
                return bundle.with_verilog(verilog)

            monkeypatch.setattr(verification, "generate_rtl", generate)

        return change

    def test_a_value_is_explained_and_repeats(self, mutant, capsys, tmp_path):
        mutant(r"assign ctl_live = .*;", "assign ctl_live = 1'b1;")
        report = verify(30, 3, "icarus", machines=2)
        found = report.failure
        assert not report.passed
        assert re.search(
            r"^input 0, layer '(conv|pool|add|fc)\d', channel \d+, position \(\d+, \d+\): expected -?\d+, got -?\d+; "
            r"the layer runs in cycles \d+ to \d+$", found.what,
        )  # fmt: skip
        assert "padding=" in found.network
        assert "int4" in found.network or "int8" in found.network
        command = shlex.split(found.repeat)
        assert command[:2] == ["codesign", "verify"]
        out = tmp_path / "result.json"
        assert cli.main([*command[1:], "--json", "--out", str(out)]) == cli.FAILED
        body = json.loads(capsys.readouterr().out)
        assert body["failure"] == vars(found)
        assert json.loads(out.read_text())["failure"] == body["failure"]
        assert (body["cases"], body["agreed"]) == (1, 0)

    def test_a_cycle_is_explained(self, mutant, capsys):
        mutant(r"('h6: \S+ = .*waited == )4", r"\g<1>5")
        assert cli.main(["verify", "--cases", "4", "--machines", "1", "--simulator", "icarus"]) == cli.FAILED
        out = capsys.readouterr().out
        law = re.search(
            r"case 0 +input 0, layer '\w+', address \d+, .*STORE .* takes (\d+) cycles, but took (\d+)", out
        )
        assert int(law[2]) == int(law[1]) + 1
        assert "RTL AND MODEL DIFFER" in out
        assert "codesign verify --seed 0 --case 0 --machines 1 --simulator icarus" in out

    def test_rtl_that_never_ends_is_a_failure(self, mutant):
        mutant(r"('h6: \S+ = .*waited == )4", r"\g<1>4096")
        found = verify(2, 0, "icarus", machines=1).failure
        assert found.case == 0
        assert "still busy" in found.what
        assert "case 0: " in str(found)
        assert "Repeat with: codesign verify --seed 0 --case 0" in str(found)


@pytest.mark.icarus
def test_an_interrupt_leaves_nothing_behind(capsys, monkeypatch):
    before = children()

    def stop(*now):
        if now[0] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(4, 2, "icarus", machines=1, progress=stop)
    assert children() <= before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"cases": 0}, "cases is an integer of at least 1, but got 0"),
        ({"seed": -1}, "seed is an integer of at least 0, but got -1"),
        ({"machines": True}, "machines is an integer of at least 1, but got True"),
        ({"only": 1.5}, "only is an integer of at least 0, but got 1.5"),
        ({"simulator": "spice"}, "simulator is one of 'auto', 'verilator'"),
    ],
)
def test_arguments_that_make_no_sense(arguments, told):
    with pytest.raises(InvalidInputError, match=told):
        verify(**arguments)
