"""Every cycle has one cause: parts add up, and an array stepped element by element loses the same slots."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from cases import MACHINES, machine, random_inputs, random_layer, runnable
from slotwalk import SlotWalk

from codesign_kernel.accelerator import causes as law
from codesign_kernel.accelerator.causes import CAUSES, Causes, LayerCauses, breakdown, slots
from codesign_kernel.accelerator.isa import Op, cycles
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.lower import Program, lower
from codesign_kernel.mapping import steps_of
from codesign_kernel.mapping.useful import macs_of
from codesign_kernel.optimize import IntegerNetwork

SMALL = ("2x2", "4x2", "1x1", "3x6", "2x8", "2x4 int16", "2x2 os", "4x2 os", "1x1 os", "2x8 os", "2x4 int16 os")


def no_zeros(program: Program) -> Program:
    """The same program with ones in place of weights of zero, so that a zero in memory is a place without a weight."""
    layers = tuple(
        replace(layer, weight=np.where(layer.weight == 0, 1, layer.weight).astype(layer.weight.dtype))
        for layer in program.network.layers
    )
    return lower(replace(program.network, layers=layers), program.accelerator)


def one_layer(shape: tuple[int, int, int], k: int, f: int, per_group: int = 0, **settings) -> IntegerNetwork:
    layer = random_layer(np.random.default_rng(0), "conv", k, per_group or shape[0], (f, f), 8, **settings)
    return IntegerNetwork("one", shape, 1.0, 8, (layer,))


class TestLaw:
    @pytest.mark.parametrize("op", Op)
    def test_parts_add_up_to_the_cycles(self, op: Op) -> None:
        rng = np.random.default_rng(int(op))
        sizes = {"rows": 33, "cols": 33, "beats": 9, "count": 5000, "positions": 900, "taps": 400, "pool": 5}
        fields = {name: rng.integers(1, top, 3000) for name, top in sizes.items()}
        found = slots(op, **fields)
        assert set(found) <= {"streamed", *CAUSES}
        assert np.array_equal(sum(found.values()), cycles(op, **fields) * fields["rows"] * fields["cols"])
        assert all((np.asarray(part) >= 0).all() for part in found.values())
        # one at a time, the same
        for k in range(0, 3000, 500):
            alone = slots(op, **{name: int(column[k]) for name, column in fields.items()})
            assert alone == {cause: np.broadcast_to(part, 3000)[k] for cause, part in found.items()}

    def test_a_small_conv_by_hand(self) -> None:
        """2x3 PEs, 4 positions, 3 taps: 2 + 3 + (2 * 4 + 4) + 6 cycles of 6 slots."""
        assert slots(Op.CONV, rows=2, cols=3, positions=4, taps=3) == {
            "issue": 12, "streamed": 72, "weights": 18, "fill": 15, "drain": 21
        }  # fmt: skip

    def test_weights_that_load_longer_than_positions_stream(self) -> None:
        """8 rows of weights, 3 positions: each of the 4 taps behind the first waits for 5 more."""
        assert slots(Op.CONV, rows=8, cols=1, positions=3, taps=5)["weights"] == 8 * (9 + 4 * 5)

    def test_a_small_sum_by_hand(self) -> None:
        """2x3 PEs, 3 results of 2x2 positions in 6 groups, 5 taps of 2 cycles; 12 cycles of pipeline."""
        assert slots(Op.SUM, rows=2, cols=3, positions=3, taps=5, pool=2) == {
            "issue": 12, "streamed": 360, "fill": 27, "drain": 21, "requantise": 24
        }  # fmt: skip

    def test_an_operation_without_causes_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(law, "ONE_CAUSE", {})
        with pytest.raises(InvalidInputError, match="STORE has none; add it to ONE_CAUSE"):
            slots(Op.STORE)

    def test_macs_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="'a' has 9 MACs and 8 slots"):
            breakdown(4, [("a", {"streamed": 8})], {"a": (9, 0)})


class TestPrograms:
    @pytest.mark.parametrize("name", SMALL)
    def test_an_array_stepped_element_by_element_loses_the_same(self, name: str) -> None:
        a = MACHINES[name]
        rng = np.random.default_rng(2)
        for random in runnable(a, 70 + SMALL.index(name), 3):
            program = no_zeros(random)
            walk = SlotWalk.of(program)
            if program.boot:
                walk.run(0)
            place = program.maps[-1]
            walk.external[program.bytes_of(place)] = program.pack(random_inputs(rng, program.network, program.batch))[0]
            seen = walk.tally(program.entry, program.owners)
            told = {one.name: Counter({c: n for c, n in one.slots.items() if n}) for one in program.causes.layers}
            if program.ways[1].packed != (1, 1):  # the array does not know the host's zeros from others
                for counts in (told[program.owners[0]], seen[program.owners[0]]):
                    counts["useful"] += counts.pop("padding", 0)
            assert told == seen

    @pytest.mark.parametrize("name", MACHINES)
    def test_sums_are_the_cycles_and_the_macs_of_the_model(self, name: str) -> None:
        a = MACHINES[name]
        for program in runnable(a, 7, 4):
            found, cost = program.causes, evaluate(program.network.workload, a)
            assert found.pes == a.rows * a.cols
            assert found.total.cycles == program.cycles == cost.latency_cycle
            assert sum(found.total.slots.values()) == program.cycles * found.pes
            assert sum(found.cycles_of(cause) for cause in CAUSES) == pytest.approx(program.cycles)
            by_name = {one.name: one for one in found.layers}
            assert [one.name for one in found.layers] == [*(layer.name for layer in cost.layers), "end"]
            for layer in cost.layers:
                assert by_name[layer.name].cycles == layer.latency_cycle

    def test_useful_and_padding_are_the_layers_macs(self) -> None:
        for program in runnable(MACHINES["4x4"], 3, 20):
            by_name = {one.name: one for one in program.causes.layers}
            for step in steps_of(program.network.workload)[0]:
                cropped = step.pool > 1 and (step.layer.OY % step.pool or step.layer.OX % step.pool)
                assert (by_name[step.layer.name].macs < step.layer.macs) if cropped else True
                assert by_name[step.layer.name].macs == step.layer.macs or cropped

    def test_edges_by_hand(self) -> None:
        """3 of 4 rows and 5 of 8 columns (two tiles of 4) over 6x6 positions; 20 of 36 results see a corner or side."""
        program = lower(one_layer((3, 6, 6), 5, 3, padding=(1, 1)), machine(4, 4, 4, 4, 4))
        conv = program.causes.layers[0]
        macs, streamed = 36 * 9 * 3 * 5, 2 * 36 * 9 * 16
        assert (conv.macs, conv.streamed) == (macs, streamed)
        assert conv.slots["useful"] == (6 * 3 - 2) ** 2 * 3 * 5
        assert conv.slots["edge"] == streamed - macs

    def test_a_depthwise_convolution_loses_all_but_the_diagonal(self) -> None:
        program = lower(one_layer((8, 5, 5), 8, 3, 1, groups=8), machine(4, 4, 4, 4, 4))
        conv = program.causes.layers[0]
        assert conv.macs * 4 == conv.streamed

    def test_rows_that_no_pooling_window_reads_are_no_work(self) -> None:
        step = steps_of(one_layer((2, 7, 7), 3, 3, padding=(1, 1), pool=2).workload)[0][0]
        assert (step.layer.macs, macs_of(step)[0]) == (7 * 7 * 9 * 6, 6 * 6 * 9 * 6)

    def test_plain_data_and_words(self) -> None:
        found = Causes(2, (LayerCauses("a", 4, {**dict.fromkeys(CAUSES, 0), "useful": 6, "issue": 2}),))
        assert str(found) == "useful 75.0%, issue 25.0%"
        assert found.to_dict() == {"pes": 2, "layers": [{"name": "a", "cycles": 4, "slots": found.layers[0].slots}]}
        assert (found.total.utilization, found.total.array_utilization) == (0.75, 1.0)
        assert found.cycles_of("issue") == 1.0
