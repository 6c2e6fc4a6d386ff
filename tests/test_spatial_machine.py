"""SpatialArray: every law once, what changes the machine and what does not, one machine and many."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from spatialcases import any_array

from codesign_kernel.accelerator.spatial import SPATIAL_FIELDS, SpatialArray, SpatialArrays
from codesign_kernel.errors import InvalidInputError

SEPARATE = {"input_kib": 32.0, "weight_kib": 32.0, "output_kib": 32.0}
#: What breaks a law, and what the refusal says.
LAWLESS: list[tuple[dict[str, Any], str]] = [
    ({"rows": 0}, "rows is an integer of 1 to 4096"),
    ({"rows": 2.5}, "rows is an integer of 1 to 4096, but got 2.5"),
    ({"rows": True}, "rows is an integer"),
    ({"cols": 4097}, "cols is an integer of 1 to 4096"),
    ({"weight_bits": 1}, "weight_bits is an integer of 2 to 32"),
    ({"input_bits": 33}, "input_bits is an integer of 2 to 32"),
    ({"output_bits": "8"}, "output_bits is an integer of 2 to 32"),
    ({"acc_bits": 7}, "acc_bits is an integer of 8 to 64"),
    ({"register_words": 0}, "register_words is an integer"),
    ({"burst_bytes": 65537}, "burst_bytes is an integer"),
    ({"vector_lanes": 0}, "vector_lanes is an integer"),
    ({"overlap": 2}, "overlap is True or False"),
    ({"im2col": None}, "im2col is True or False"),
    ({"double_buffered": "yes"}, "double_buffered is True or False"),
    ({"duplex": -1}, "duplex is True or False"),
    ({"dataflow": "rs"}, "dataflow is one of 'ws', 'os', 'is', but got 'rs'"),
    ({"bandwidth_gb_s": 0.0}, "bandwidth_gb_s is a number from 1e-06"),
    ({"bandwidth_gb_s": float("nan")}, "bandwidth_gb_s is a number"),
    ({"frequency_mhz": -1.0}, "frequency_mhz is a number"),
    ({"node_nm": 3.0}, "node_nm is a number from 7 to 45"),
    ({"input_kib": -1.0}, "input_kib is a number"),
    ({"weight_kib": float("inf")}, "weight_kib is a number"),
    ({"dram": 4}, "dram is a text"),
    ({"name": None}, "name is a text"),
    ({"source": 1}, "source is a text"),
    ({"input_kib": 0.0}, "three buffers .* or one"),
    ({**SEPARATE, "shared_kib": 64.0}, "three buffers .* or one"),
    ({**dict.fromkeys(SEPARATE, 0.0)}, "three buffers .* or one"),
    ({"weight_kib": 16 * 8 / 8192 - 1e-6}, "the weight buffer holds at least one word of 128 bits, but has 127 bits"),
    ({"shared_kib": 0.001}, "the shared buffer holds at least one word"),
]
IDS = [next(iter(bad)) for bad, _ in LAWLESS]


@pytest.mark.parametrize(("bad", "says"), LAWLESS, ids=IDS)
def test_each_law_is_stated(bad: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        SpatialArray(**bad)


@pytest.mark.parametrize("bad", [bad for bad, _ in LAWLESS if not {"dram", "name", "source"} & set(bad)], ids=str)
def test_a_batch_marks_what_one_machine_refuses(bad: dict[str, Any]) -> None:
    kind = {name: type(value) for name, value in bad.items()}
    if {str, bool, type(None)} & set(kind.values()) and "dataflow" not in bad:
        return  # a column has one type, and not this one
    columns = {name: [getattr(SpatialArray(), name), value] for name, value in bad.items()}
    if "shared_kib" in bad:
        columns |= {name: [64.0, bad.get(name, 0.0)] for name in SEPARATE}
    assert SpatialArrays.from_columns(columns).lawful.tolist() == [True, False]


def test_a_batch_refuses_what_is_no_column() -> None:
    with pytest.raises(InvalidInputError, match=r"columns are fields of a SpatialArray .* but got \['side'\]"):
        SpatialArrays.from_columns({"side": [1]})
    with pytest.raises(InvalidInputError, match="rows is a column of numbers"):
        SpatialArrays.from_columns({"rows": ["eight"]})
    with pytest.raises(InvalidInputError, match="one kind of DRAM"):
        SpatialArrays.of([SpatialArray(), SpatialArray(dram="HBM2")])


def test_a_shared_buffer_takes_the_place_of_three() -> None:
    one = SpatialArray(shared_kib=128.0)
    assert (one.input_kib, one.weight_kib, one.output_kib) == (0.0, 0.0, 0.0)
    assert [(level.name, level.capacity_bit) for level in one.memories] == [("shared", 128 * 8192)]
    assert [level.name for level in SpatialArray().memories] == ["input", "weight", "output"]


@pytest.mark.parametrize(
    ("dataflow", "words"),
    [  # what streams enters along one side, what stays and the sums along the other
        ("ws", {"input": 4 * 8, "weight": 6 * 4, "output": 6 * 32}),
        ("os", {"input": 4 * 8, "weight": 6 * 4, "output": 6 * 32}),
        ("is", {"input": 6 * 8, "weight": 4 * 4, "output": 6 * 32}),
    ],
)
def test_a_word_is_what_the_array_takes_in_a_cycle(dataflow: str, words: dict[str, int]) -> None:
    machine = SpatialArray(rows=4, cols=6, weight_bits=4, dataflow=dataflow)
    assert {level.name: level.word_bit for level in machine.memories} == words
    (shared,) = replace(machine, shared_kib=64.0, **dict.fromkeys(SEPARATE, 0.0)).memories
    assert shared.word_bit == max(words.values())


def test_the_digest_is_of_the_machine() -> None:
    base = SpatialArray()
    assert replace(base, name="mine", source="a paper").digest == base.digest
    assert SpatialArray(rows=np.int64(16), overlap=1, input_kib=64).digest == base.digest  # type: ignore[arg-type]
    others: dict[str, Any] = {
        "dataflow": "os", "dram": "HBM2", "node_nm": 22.0, "frequency_mhz": 400.0, "bandwidth_gb_s": 1.0,
        **dict.fromkeys(("overlap", "im2col", "double_buffered"), False), "duplex": True, "shared_kib": 96.0,
        **SEPARATE, **dict.fromkeys(("rows", "cols", "weight_bits", "input_bits", "output_bits"), 5),
        **dict.fromkeys(("acc_bits", "register_words", "burst_bytes", "vector_lanes"), 24),
    }  # fmt: skip
    assert set(others) == {f.name for f in fields(SpatialArray)} - {"name", "source"}
    digests = {replace(base, **{name: value}).digest for name, value in others.items()}
    assert len(digests | {base.digest}) == len(others) + 1


def test_peak_and_bandwidth() -> None:
    machine = SpatialArray(rows=4, cols=8, frequency_mhz=250.0, bandwidth_gb_s=2.0)
    assert machine.pes == 32
    assert machine.peak_macs_per_s == 32 * 250e6
    assert machine.bits_per_cycle == 2e9 * 8 / 250e6
    assert str(replace(machine, name="mine")).startswith(
        "mine: 4x8 ws int8, 64 KiB input, 64 KiB weight, 64 KiB output"
    )


def test_many_machines_are_those_one_by_one() -> None:
    rng = random.Random(0)
    machines = [any_array(rng) for _ in range(40)]
    many = SpatialArrays.of(machines)
    assert many.lawful.all()
    assert len(many) == 40
    for place, machine in enumerate(machines):
        for name in SPATIAL_FIELDS:
            value = getattr(many, name)[place]
            assert value == (
                ("ws", "os", "is").index(machine.dataflow) if name == "dataflow" else getattr(machine, name)
            )
        assert many.bits_per_cycle[place] == machine.bits_per_cycle
        held = {level.name: level.capacity_bit for level in machine.memories}
        assert {name: bits[place] for name, bits in many.capacity_bit.items() if bits[place]} == held
    some = many.of_some(np.array([3, 1]))
    assert some.rows.tolist() == [machines[3].rows, machines[1].rows]
