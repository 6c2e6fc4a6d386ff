"""Design spaces and sweeps: numbers and designs, batches and single designs, grids and lists of indices."""

from __future__ import annotations

import math
from functools import partial
from importlib import import_module
from itertools import pairwise, product

import numpy as np
import pytest
from cases import random_layer

from codesign_kernel.accelerator.types import FIELDS, Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.cost.table import LAWLESS, RESULTS, result_columns
from codesign_kernel.design import Design, DesignSpace, SpatialSpace
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.explore import sweep as explore_sweep
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.session import sweep
from codesign_kernel.workload import Layer, Workload


def digits() -> Workload:
    """The CNN of the demo: two convolutions with pooling, one fully connected layer."""
    rng = np.random.default_rng(0)
    settings = {"padding": (1, 1), "relu": True, "pool": 2}
    layers = (
        random_layer(rng, "conv1", 16, 1, (3, 3), 8, **settings),
        random_layer(rng, "conv2", 32, 16, (3, 3), 8, **settings, weight_bits=4),
        random_layer(rng, "fc", 10, 128, (1, 1), 8, op="linear", flatten=True, weight_bits=2),
    )
    return IntegerNetwork("digits", (1, 8, 8), 1.0, 8, layers).workload


def grouped() -> Workload:
    """Depthwise and pointwise, a stride, dilation, and groups whose tiles straddle."""
    rng = np.random.default_rng(1)
    layers = (
        random_layer(rng, "stem", 12, 3, (3, 3), 8, stride=(2, 2), padding=(1, 1)),
        random_layer(
            rng, "depth", 12, 1, (3, 3), 8, groups=12, padding=(2, 2), dilation=(2, 2), relu=True, weight_bits=2
        ),
        random_layer(rng, "point", 30, 12, (1, 1), 8),
        random_layer(rng, "group", 21, 10, (3, 3), 8, groups=3, padding=(1, 1), pool=2, weight_bits=4),
    )
    return IntegerNetwork("grouped", (3, 20, 15), 1.0, 8, layers).workload


def attention() -> Workload:
    """A projection, and the two products of two heads: their second operand is streamed."""
    layers = (
        Layer("project", "linear", K=48, C=16, OY=10, IY=10, weight_bits=3),
        Layer("scores", "matmul", G=2, K=10, C=8, OY=10, IY=10),
        Layer("softmax", "softmax", K=20, C=20, OY=10, IY=10),
        Layer("mix", "matmul", G=2, K=8, C=10, OY=10, IY=10, weight_bits=2),  # activations
    )
    return Workload("attention", layers, tuple(pairwise(layer.name for layer in layers)))


WORKLOADS = {"digits": digits, "grouped": grouped, "attention": attention}
#: Lawful and lawless, feasible and not: every column of the template varies.
WIDE = DesignSpace(
    rows=(1, 2, 3, 4, 8, 16),
    cols=(1, 2, 4, 6, 8, 32),
    dataflow=("ws", "os"),
    weight_bits=(4, 8, 16),
    acc_bits=(0, 32, 48),
    activation_kib=(0.05, 0.2, 1, 4.5, 16, 1500),
    weight_kib=(0.4, 2, 5, 33, 128),
    accumulator_kib=(0.05, 0.5, 1, 8),
    instruction_kib=(0.5, 16),
    bandwidth_gb_s=(0.3, 0.8, 3.2, 25.6),
    frequency_mhz=(50, 200, 333.3, 1000),
    node_nm=(7, 16.5, 28, 45),
    memory_latency=(-1, 0, 3, 100, 1000, 1001),
    min_weight_bits=(0, 2, 3, 4, 8, 16),
)
#: The module; the package shows the function of the same name.
SWEEP = import_module("codesign_kernel.explore.sweep")


def scalar(workload: Workload, parameters: dict[str, float]) -> dict[str, object]:
    """The row of one design, from :func:`evaluate`."""
    nothing = dict.fromkeys(RESULTS, math.nan)
    try:
        design = Design.of(parameters)
    except InvalidInputError:
        return {**nothing, "feasible": False, "reason": LAWLESS}
    try:
        cost = evaluate(workload, design)
    except InfeasibleDesignError as error:
        return {**nothing, "feasible": False, "reason": f"{str(error).split()[1]} memory too small"}
    return {
        "latency_cycle": cost.latency_cycle,
        "latency_ms": cost.latency_s * 1e3,
        "energy_uj": cost.energy_pj * 1e-6,
        "energy_low_uj": cost.energy_low_pj * 1e-6,
        "energy_high_uj": cost.energy_high_pj * 1e-6,
        "area_mm2": cost.area_um2 * 1e-6,
        "power_mw": cost.energy_pj * 1e-9 / cost.latency_s,
        "utilization": cost.utilization,
        "feasible": True,
        "reason": "",
    }


class TestSweep:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", WORKLOADS)
    def test_a_batch_is_its_designs_one_by_one(self, name):
        """Every column of 1,000 random designs, half of them feasible, bit for bit; and the same reasons."""
        workload = WORKLOADS[name]()
        drawn = sweep(workload, WIDE, indices=np.random.default_rng(7).choice(WIDE.size, 24_000, replace=False))
        chosen = np.concatenate([drawn.index[drawn["feasible"] == good][:500] for good in (True, False)])
        assert len(chosen) == 1000
        frame = sweep(workload, WIDE, indices=chosen)
        assert list(frame.columns) == [*WIDE.parameters, *RESULTS, "feasible", "reason"]
        assert frame.index.tolist() == chosen.tolist()
        rows = frame.to_dict("records")
        for row in rows:
            want = scalar(workload, row)
            for column, value in want.items():
                same = row[column] == value or (row[column] != row[column] and value != value)
                assert same, (column, row, want)
        assert frame["reason"].nunique() >= 4

    def test_every_reason_occurs(self):
        frame = sweep(digits(), WIDE, indices=np.random.default_rng(0).choice(WIDE.size, 20_000))
        memories = {f"{name} memory too small" for name in ("activation", "weight", "accumulator", "instruction")}
        assert set(frame["reason"]) == {"", LAWLESS, *memories}
        assert (frame["feasible"] == (frame["reason"] == "")).all()
        assert frame[list(RESULTS)].isna().any(axis=1).equals(~frame["feasible"])

    @pytest.mark.parametrize("at_once", [60, 500, 100_000])
    def test_a_whole_space_is_its_indices(self, at_once, monkeypatch):
        """All combinations over their axes, and a list of designs in any order, give the same bits."""
        monkeypatch.setattr(SWEEP, "GRID", at_once)
        monkeypatch.setattr(SWEEP, "CHUNK", at_once)
        space = DesignSpace(
            rows=(2, 3, 4, 8), cols=(2, 4, 6), weight_kib=(0.5, 4, 64), accumulator_kib=(0.25, 8),
            activation_kib=(0.5, 2), frequency_mhz=(100, 200), node_nm=(16, 28),
            weight_bits=(4, 8, 16), dataflow=("os", "ws"), memory_latency=(0, 50),
        )  # fmt: skip
        order = np.random.default_rng(3).permutation(space.size)
        for workload in (digits(), grouped(), attention()):
            whole = sweep(workload, space)
            assert whole.index.tolist() == list(range(space.size))
            picked = sweep(workload, space, indices=order)
            assert whole.loc[order].equals(picked)
            assert 0.1 < whole["feasible"].mean() < 0.9

    @pytest.mark.parametrize("indices", [None, range(5, 405)])
    def test_progress_rises_to_all(self, indices, monkeypatch):
        monkeypatch.setattr(SWEEP, "CHUNK", 64)
        monkeypatch.setattr(SWEEP, "GRID", 64)
        space = DesignSpace(rows=(1, 2, 4, 8, 16), cols=(1, 2, 4, 8, 16), weight_kib=tuple(range(8, 48)))
        told: list[tuple[int, int, str]] = []
        sweep(digits(), space, indices=indices, progress=lambda *now: told.append(now))
        total = space.size if indices is None else 400
        done = [now[0] for now in told]
        assert len(done) >= total / 64
        assert all(a < b for a, b in pairwise(done))
        assert done[-1] == total
        assert {now[1:] for now in told} == {(total, "designs evaluated")}

    def test_lawless_combinations_are_rows(self):
        frame = sweep(digits(), DesignSpace(rows=(3, 4), cols=(4, 5), bandwidth_gb_s=(0.01, 3.2)))
        assert len(frame) == 8
        lawful = frame.query("rows == 4 and cols == 4 and bandwidth_gb_s == 3.2").index.tolist()
        assert frame.index[frame["feasible"]].tolist() == lawful
        assert set(frame.drop(lawful)["reason"]) == {LAWLESS}

    def test_other_things_are_refused(self):
        space = DesignSpace(rows=4, cols=4)
        with pytest.raises(
            InvalidInputError, match="sweep takes a Workload, a Profile or an IntegerNetwork, but got int"
        ):
            sweep(3, space)
        with pytest.raises(InvalidInputError, match="sweep takes a DesignSpace, but got dict"):
            sweep(digits(), {"rows": 4})
        with pytest.raises(InvalidInputError, match="numbered 0 to 0, but got 1 to 1"):
            sweep(digits(), space, indices=[1])
        with pytest.raises(InvalidInputError, match="at least one operator that does MACs"):
            sweep(Workload("w", (Layer("r", "relu"),)), space)

    def test_columns_of_another_name_are_refused(self):
        with pytest.raises(InvalidInputError, match=r"columns are fields of an Accelerator.*but got \['lanes'\]"):
            result_columns(digits(), {"lanes": np.array([4])})


class TestDesignSpace:
    def test_numbers_and_designs_are_one_to_one(self):
        space = DesignSpace(rows=(2, 4), cols=(2, 8, 16), weight_kib=(4, 8.5), node_nm=28)
        assert space.size == len(space) == 12
        assert space.parameters == ("rows", "cols", "weight_kib", "node_nm")
        want = [
            {"rows": r, "cols": c, "weight_kib": w, "node_nm": 28} for r, c, w in product((2, 4), (2, 8, 16), (4, 8.5))
        ]
        assert list(space) == want
        columns = space.columns()
        assert list(columns) == list(space.parameters)
        for i, parameters in enumerate(want):
            assert {name: values[i] for name, values in columns.items()} == parameters
            assert space.design(i) == Design(Accelerator.systolic(**parameters))
        assert len({space.design(i).digest for i in range(12)}) == 12
        some = space.columns([11, 0, 5, 5])
        assert some["cols"].tolist() == [16, 2, 16, 16]
        assert some["weight_kib"].tolist() == [8.5, 4.0, 8.5, 8.5]

    def test_a_row_of_a_sweep_is_its_design(self):
        space = DesignSpace(rows=(2, 4), cols=4, weight_kib=(4, 8))
        frame = sweep(digits(), space)
        for i, row in frame.iterrows():
            assert Design.of(row) == space.design(i)
            assert (
                Design.of(row).digest
                == Accelerator.systolic(int(row["rows"]), 4, weight_kib=int(row["weight_kib"])).digest
            )

    def test_the_default_space(self):
        space = DesignSpace.default()
        assert space.size == 6 * 6 * 8 * 10 * 7 * 4 * 3
        assert set(space.parameters) < set(FIELDS)
        assert "241,920 designs: rows x6" in repr(space)
        frame = sweep(digits(), space, indices=range(0, space.size, 97))
        assert frame["feasible"].mean() > 0.5

    @pytest.mark.parametrize("index", [-1, 4, 10**9])
    def test_an_index_outside_is_refused(self, index):
        space = DesignSpace(rows=(2, 4), cols=(2, 4))
        with pytest.raises(InvalidInputError, match=f"numbered 0 to 3, but got {index} to {index}"):
            space.design(index)

    def test_a_lawless_design_says_which_law(self):
        space = DesignSpace(rows=(2, 3), cols=(2, 4))
        with pytest.raises(InvalidInputError, match="a multiple of the shorter, but got rows = 3, cols = 4"):
            space.design(3)

    @pytest.mark.parametrize(
        ("choices", "told"),
        [
            ({"rows": 4}, "choices for rows and for cols"),
            ({"rows": 4, "cols": 4, "lanes": 2}, r"has the parameters rows, cols.*but got \['lanes'\]"),
            ({"rows": 4, "cols": 4, "name": "x"}, r"but got \['name'\]"),
            ({"rows": (), "cols": 4}, r"rows has one or more different whole numbers.*got \(\)"),
            ({"rows": 4, "cols": (4, 4.5)}, r"cols has one or more different whole numbers.*got \(4, 4\.5\)"),
            ({"rows": (4, 4), "cols": 4}, r"rows has one or more different.*got \(4, 4\)"),
            ({"rows": "44", "cols": 4}, "rows has one or more different.*got '44'"),
            ({"rows": 4, "cols": 4, "weight_kib": (1, float("nan"))}, "weight_kib has .* finite numbers"),
            ({"rows": 4, "cols": (True, 4)}, "cols has one or more different"),
            ({"rows": 4, "cols": 4, "dataflow": ("ws", "ws")}, "dataflow has one or more different of 'ws', 'os'"),
            ({"rows": 4, "cols": 4, "dataflow": ("ws", "is")}, r"dataflow has .* got \('ws', 'is'\)"),
            ({"rows": 4, "cols": 4, "dataflow": 1}, "dataflow has one or more .* got 1"),
            ({"rows": 4, "cols": 4, "dataflow": ()}, "dataflow has one or more"),
            ({"rows": 4, "cols": 4, "node_nm": {28, 45}}, "node_nm has one or more"),
        ],
    )
    def test_choices_that_are_none_are_refused(self, choices, told):
        with pytest.raises(InvalidInputError, match=told):
            DesignSpace(**choices)

    def test_numpy_choices_are_plain_numbers(self):
        space = DesignSpace(rows=np.array([2, 4]), cols=range(4, 5), weight_kib=np.float32(4))
        assert [type(v) for values in space.choices.values() for v in values] == [int, int, int, float]
        assert space.design(1) == Design(Accelerator.systolic(4, 4, weight_kib=4))

    def test_a_dataflow_is_chosen_by_name(self):
        space = DesignSpace(rows=4, cols=4, dataflow=np.array(["ws", "os"]))
        assert [space.design(i).accelerator.dataflow for i in (0, 1)] == ["ws", "os"]
        frame = sweep(digits(), space)
        assert frame["dataflow"].tolist() == ["ws", "os"]
        assert Design.of(frame.loc[1]) == space.design(1)
        assert frame["latency_cycle"][1] < frame["latency_cycle"][0]

    def test_the_sweep_takes_any_evaluation(self):
        """explore knows no cost model: what it is given is called with columns, and its columns come back."""
        space = DesignSpace(rows=(1, 2, 4), cols=(1, 2))
        frame = explore_sweep(space, partial(lambda scale, c: {"pes": scale * c["rows"] * c["cols"]}, 10))
        assert frame["pes"].tolist() == [10, 20, 20, 40, 40, 80]


class TestSpatialSpace:
    @pytest.mark.parametrize(
        "choices",
        [
            {"rows": (4, 8), "cols": 8},
            {"rows": 8, "cols": 8, "weight_kib": (16, 64), "bandwidth_gb_s": (1.6, 12.8)},
            {"rows": 8, "cols": 8, "dataflow": ("ws", "os", "is"), "overlap": (0, 1), "register_words": (1, 4)},
        ],
    )
    def test_a_row_of_a_sweep_is_its_design(self, choices):
        space = SpatialSpace(**choices)
        frame = sweep(digits(), space)
        assert len(frame) == space.size
        for number, row in frame.iterrows():
            design = Design.of(row)
            assert design == space.design(number)
            assert evaluate(digits(), design).latency_cycle == row["latency_cycle"]

    def test_it_says_what_it_is(self):
        assert repr(SpatialSpace(rows=8, cols=8)).startswith("SpatialSpace(1 designs")

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({}, "rows and cols is missing"),
            ({"rows": 8.5, "cols": 8}, "rows is an integer"),
            ({"rows": float("nan"), "cols": 8}, "rows is an integer"),
            ({"rows": 8, "cols": 8, "vector_lanes": 16, "dataflow": 5}, "dataflow is one of"),
            ({"rows": 8, "cols": 8.7, "vector_lanes": 16}, "cols is an integer"),
        ],
    )
    def test_a_row_that_is_none_is_refused(self, row, message):
        with pytest.raises(InvalidInputError, match=message):
            Design.of(row)

    def test_a_dataflow_is_a_word(self):
        with pytest.raises(InvalidInputError, match="dataflow has one or more different of 'ws', 'os', 'is'"):
            SpatialSpace(rows=8, cols=8, dataflow=("ws", "rs"))
