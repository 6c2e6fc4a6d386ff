"""Pareto fronts against brute force, the knee of hand-made fronts, hypervolume against counting cells."""

import subprocess
import sys
import time
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.pareto import hypervolume, knee, non_dominated, pareto_front


def brute_force(points):
    """By the definition, every pair."""
    mask = []
    for p in points:
        beaten = any((q <= p).all() and (q < p).any() for q in points if not np.isnan(q).any())
        mask.append(not np.isnan(p).any() and not beaten)
    return np.array(mask, dtype=bool)


def clouds():
    """(name, points) of one to five objectives: smooth, gridded (duplicates and ties), constant, curved, with NaN."""
    random = np.random.default_rng(7)
    for m, n in product((1, 2, 3, 4, 5), (1, 2, 17, 90)):
        smooth = random.random((n, m))
        yield f"smooth {n}x{m}", smooth
        yield f"grid {n}x{m}", random.integers(0, 4, (n, m))
        yield f"one value {n}x{m}", np.ones((n, m))
        constant = random.integers(0, 5, (n, m)).astype(float)
        constant[:, random.integers(m)] = 3.0
        yield f"constant column {n}x{m}", constant
        yield f"curved {n}x{m}", smooth / np.linalg.norm(smooth, axis=1, keepdims=True)
        gaps = random.integers(0, 4, (n, m)).astype(float)
        gaps[random.random((n, m)) < 0.1] = np.nan
        yield f"NaN {n}x{m}", gaps
        yield f"infinities and signed zeros {n}x{m}", random.choice([-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf], (n, m))


@pytest.mark.parametrize("points", [pytest.param(points, id=name) for name, points in clouds()])
def test_front_equals_brute_force_in_any_order(points):
    wanted = brute_force(points)
    assert (non_dominated(points) == wanted).all()
    order = np.random.default_rng(3).permutation(len(points))
    assert (non_dominated(points[order]) == wanted[order]).all()


@pytest.mark.parametrize("m", [3, 4])
def test_front_equals_brute_force_over_several_blocks(m):
    random = np.random.default_rng(m)
    points = random.integers(0, 60, (2000, m))
    strictly_worse = (points[None] <= points[:, None]).all(axis=2) & (points[None] < points[:, None]).any(axis=2)
    assert (non_dominated(points) == ~strictly_worse.any(axis=1)).all()
    curved = random.random((1500, m))
    curved /= np.linalg.norm(curved, axis=1, keepdims=True)
    beaten = (curved[None] <= curved[:, None]).all(axis=2) & (curved[None] < curved[:, None]).any(axis=2)
    assert (non_dominated(curved) == ~beaten.any(axis=1)).all()
    assert non_dominated(curved).sum() > 512


def test_equal_points_all_stay_and_integers_compare_exactly():
    assert non_dominated(np.array([[1, 2], [1, 2], [2, 2], [0, 3]])).tolist() == [True, True, False, True]
    large = 2**60
    assert non_dominated(np.array([[large + 1, 0], [large, 0]])).tolist() == [False, True]


def test_no_points_and_only_nan():
    assert non_dominated(np.empty((0, 3))).shape == (0,)
    assert non_dominated(np.full((4, 2), np.nan)).tolist() == [False] * 4


@pytest.mark.parametrize(
    "points", [np.zeros(3), np.zeros((2, 0)), np.array([["a", "b"]]), np.zeros((2, 2), dtype=bool)]
)
def test_what_is_no_table_of_numbers_is_refused(points):
    with pytest.raises(InvalidInputError, match="a table of numbers"):
        non_dominated(points)


def test_a_hundred_thousand_points_take_seconds_at_most():
    random = np.random.default_rng(0)
    sphere = random.random((100_000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    started = time.process_time()
    assert non_dominated(sphere).mean() > 0.9  # the worst case: nearly all are on the front
    assert non_dominated(random.random((100_000, 3))).sum() < 500
    assert time.process_time() - started < 3


@pytest.fixture
def designs():
    return pd.DataFrame(
        {
            "latency_ms": [4.0, 1.0, 2.0, 3.0, np.nan, 1.0, 0.1],
            "area_mm2": [1.0, 9.0, 3.0, 3.0, np.nan, 9.0, 0.1],
            "accuracy": [0.5, 0.5, 0.9, 0.95, 0.99, 0.5, 0.99],
            "feasible": [True, True, True, True, False, True, False],
            "reason": ["", "", "", "", "weights do not fit", "", "too slow"],
            "name": list("abcdefg"),
        },
        index=[10, 11, 12, 13, 14, 15, 16],
    )


def test_front_of_a_table(designs):
    front = pareto_front(designs, ["latency_ms", "area_mm2"])
    assert front.index.tolist() == [11, 15, 12, 10]  # sorted by latency; the equal pair 11, 15 stays, in order
    assert front.attrs["objectives"] == {"latency_ms": "min", "area_mm2": "min"}
    assert front.columns.tolist() == designs.columns.tolist()
    assert "objectives" not in designs.attrs
    front.loc[11, "name"] = "changed"
    assert designs.loc[11, "name"] == "b"


def test_an_objective_can_be_maximised(designs):
    front = pareto_front(designs, {"accuracy": "max", "latency_ms": "min"})
    assert front.index.tolist() == [13, 12, 11, 15]  # best accuracy first
    assert front.attrs["objectives"] == {"accuracy": "max", "latency_ms": "min"}
    single = pareto_front(designs, {"accuracy": "max"})
    assert single.index.tolist() == [13]


def test_front_does_not_depend_on_the_order_of_rows(designs):
    wanted = pareto_front(designs, ["latency_ms", "area_mm2", "accuracy"])
    for seed in range(5):
        shuffled = designs.sample(frac=1, random_state=seed)
        assert set(pareto_front(shuffled, ["latency_ms", "area_mm2", "accuracy"]).index) == set(wanted.index)


def test_front_without_a_feasible_column_leaves_out_nan(designs):
    front = pareto_front(designs.drop(columns="feasible"), ["latency_ms", "area_mm2"])
    assert front.index.tolist() == [16]


def test_front_of_nullable_columns(designs):
    nullable = designs.convert_dtypes()
    assert pareto_front(nullable, ["latency_ms", "area_mm2"]).index.tolist() == [11, 15, 12, 10]


def test_errors_of_the_front(designs):
    with pytest.raises(InvalidInputError, match="'energy' occurs 0 times; choose from latency_ms, area_mm2"):
        pareto_front(designs, ["energy"])
    with pytest.raises(InvalidInputError, match="an objective is a column of numbers, but 'name' holds"):
        pareto_front(designs, ["name"])
    with pytest.raises(InvalidInputError, match="an objective is a column of numbers, but 'feasible' holds bool"):
        pareto_front(designs, ["feasible"])
    with pytest.raises(InvalidInputError, match="""the direction of 'area_mm2' is "min" or "max", but got 'low'"""):
        pareto_front(designs, {"area_mm2": "low"})
    with pytest.raises(InvalidInputError, match=r"objectives are a list of columns, but got 'area_mm2'"):
        pareto_front(designs, "area_mm2")
    with pytest.raises(InvalidInputError, match="at least one objective"):
        pareto_front(designs, [])
    with pytest.raises(InvalidInputError, match="the table has none"):
        pareto_front(designs.iloc[:0], ["area_mm2"])
    with pytest.raises(InvalidInputError, match="'area_mm2' holds 1 infinities"):
        pareto_front(designs.assign(area_mm2=[np.inf, 1, 1, 1, 1, 1, 1]), ["area_mm2"])
    with pytest.raises(InvalidInputError, match="'feasible' holds True or False"):
        pareto_front(designs.assign(feasible="yes"), ["area_mm2"])
    twice = pd.concat([designs, designs[["area_mm2"]]], axis=1)
    with pytest.raises(InvalidInputError, match="'area_mm2' occurs 2 times"):
        pareto_front(twice, ["area_mm2"])


def test_no_feasible_row_is_counted(designs):
    rows = designs.loc[[14, 14, 16]]
    with pytest.raises(InfeasibleDesignError) as raised:
        pareto_front(rows, ["area_mm2"])
    message = str(raised.value)
    assert "of 3 rows 3 are infeasible and 0 lack an objective" in message
    assert "weights do not fit (2); too slow (1)" in message
    with pytest.raises(InfeasibleDesignError, match="of 1 rows 0 are infeasible and 1 lack an objective"):
        pareto_front(pd.DataFrame({"x": [np.nan]}), ["x"])


def test_knee_on_linear_axes():
    # scaled: (0, 1), (0.25, 0.25), (0.5, 0.2), (1, 0); squared distances 1, 0.125, 0.29, 1
    front = pareto_front(pd.DataFrame({"x": [0.0, 1.0, 2.0, 4.0], "y": [20.0, 5.0, 4.0, 0.0]}), ["x", "y"])
    row = knee(front)
    assert row.name == 1
    assert row.to_dict() == {"x": 1.0, "y": 5.0}


def test_knee_on_log_axes_over_decades():
    # both span six decades: scaled (0, 1), (1/6, 2/3), (1/2, 1/2), (1, 0); on linear axes row 2 would be the nearest
    front = pd.DataFrame({"x": [1.0, 1e1, 1e3, 1e6], "y": [1e6, 1e4, 1e3, 1.0]})
    assert knee(front, ["x", "y"]).name == 1
    # down to zero there is no logarithm: linear, whatever the span
    assert knee(front.assign(x=[0.0, 1e1, 1e3, 1e6], y=[1e6, 1e4, 1e3, 0.0]), ["x", "y"]).name == 2


def test_knee_takes_the_log_axis_from_just_above_two_decades():
    # linear: (1/99, 39/99) against (9/99, 19/99); with x on a log axis: (0.15, 0.39) against (0.50, 0.19)
    front = pd.DataFrame({"x": [1.0, 2.0, 10.0, 100.0], "y": [100.0, 40.0, 20.0, 1.0]})
    assert knee(front, ["x", "y"]).name == 2
    assert knee(front.assign(x=[1.0, 2.0, 10.0, 101.0]), ["x", "y"]).name == 1


def test_knee_at_a_tie_is_the_first_of_the_sorted_front():
    tie = pd.DataFrame({"x": [0.0, 1.0, 2.0, 4.0], "y": [4.0, 2.0, 1.0, 0.0]})
    assert knee(tie, ["x", "y"]).name == 1
    assert knee(tie.iloc[::-1], ["x", "y"]).name == 1
    assert knee(tie, ["y", "x"]).name == 2


def test_knee_of_three_objectives_a_constant_and_a_maximised_one():
    frame = pd.DataFrame(
        {
            "latency": [1.0, 2.0, 5.0],
            "accuracy": [0.1, 0.8, 0.9],
            "area": [7.0, 7.0, 7.0],
        }
    )
    # scaled: latency 0, 1/4, 1; accuracy 1, 1/8, 0; area counts nothing
    objectives = {"latency": "min", "accuracy": "max", "area": "min"}
    assert knee(pareto_front(frame, objectives)).name == 1
    assert knee(frame, objectives).name == 1


def test_knee_of_one_row_and_of_rows_that_are_dominated():
    assert knee(pd.DataFrame({"x": [3.0], "y": [4.0]}), ["x", "y"]).name == 0
    # row 3 is dominated and far out; it must not stretch the axes
    frame = pd.DataFrame({"x": [0.0, 1.0, 4.0, 400.0], "y": [20.0, 5.0, 0.0, 4000.0]})
    assert knee(frame, ["x", "y"]).name == 1


def test_knee_without_objectives_is_refused():
    with pytest.raises(InvalidInputError, match="this table remembers none"):
        knee(pd.DataFrame({"x": [1.0]}))


def inclusion_exclusion(points, reference):
    """Volume of the union of the boxes between each point and the reference."""
    total = 0.0
    for k in range(1, len(points) + 1):
        for chosen in combinations(points, k):
            sides = reference - np.max(chosen, axis=0)
            total += (-1) ** (k + 1) * (sides.prod() if (sides > 0).all() else 0.0)
    return total


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_hypervolume_equals_inclusion_and_exclusion(m, seed):
    random = np.random.default_rng(seed)
    points = random.random((9, m)) * 1.2
    reference = np.ones(m)
    inside = points[(points < 1).all(axis=1)]
    assert hypervolume(points, reference) == pytest.approx(inclusion_exclusion(inside, reference), rel=1e-12)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_hypervolume_equals_the_count_of_cells(m, seed):
    random = np.random.default_rng(seed)
    points = random.integers(0, 9, (40, m))  # duplicates, ties and points beyond the reference
    cells = np.array(list(product(range(7), repeat=m)))
    covered = (points[None] <= cells[:, None]).all(axis=2).any(axis=1)
    assert hypervolume(points, [7] * m) == covered.sum()
    front = points[non_dominated(points)]
    assert hypervolume(front, [7] * m) == covered.sum()


def test_hypervolume_by_hand_and_its_errors():
    assert hypervolume(np.array([[1, 3], [2, 2], [3, 1]]), (4, 4)) == 6
    assert hypervolume(np.array([[1.0, 1.0, 1.0]]), (2, 3, 4)) == 6
    assert hypervolume(np.empty((0, 3)), (1, 1, 1)) == 0
    assert hypervolume(np.array([[4.0, 0.0], [np.nan, 1.0]]), (4, 4)) == 0
    with pytest.raises(InvalidInputError, match=r"\[n, 2\] or \[n, 3\]"):
        hypervolume(np.zeros((3, 4)), (1, 1, 1, 1))
    with pytest.raises(InvalidInputError, match="one reference value an objective"):
        hypervolume(np.zeros((3, 2)), (1, 1, 1))
    with pytest.raises(InvalidInputError, match="a finite reference"):
        hypervolume(np.zeros((3, 2)), (1, np.inf))
    with pytest.raises(InvalidInputError, match="1 such points"):
        hypervolume(np.array([[0, -np.inf]]), (1, 1))


def test_importing_the_room_loads_no_pandas():
    code = "import sys, codesign_kernel.pareto; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
