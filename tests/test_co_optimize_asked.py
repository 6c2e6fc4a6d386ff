"""What can be asked of one search over network and machine: the choices, and what is refused before any work."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from paircases import NETWORKS, Counting, Task, task

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError, MissingPackageError, UnsupportedLayerError
from codesign_kernel.optimize import quantize

__all__ = ["task"]  # a fixture


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"space": ck.SpatialSpace(rows=8, cols=8)}, "takes a DesignSpace"),
        ({"data": np.zeros(3)}, "data is a Dataset"),
        ({"networks": [1, 2]}, "networks is a NetworkSpace"),
        ({"networks": ck.NetworkSpace(bits=(16,))}, "machines of its own width"),
        ({"networks": ck.NetworkSpace(weight_bits={"conv9": (2, 4)})}, "conv1, conv2, fc"),
        ({"networks": ck.NetworkSpace(keep={"conv9": (0.5, 1.0)})}, "no layer 'conv9'"),
        ({"constraints": {"beauty": 1.0}}, "a limit is on"),
        ({"constraints": {"accuracy": 95.0}}, "0 to 1"),
        ({"constraints": {"accuracy": (0.2, 0.9)}}, "its least"),
        ({"constraints": {"area_mm2": (2.0, 1.0)}}, "exchange them"),
        ({"objectives": ("utilization",)}, "all minimised"),
        ({"objectives": "latency_ms"}, "all minimised"),
        ({"objectives": ()}, "all minimised"),
        ({"budget": 0}, "a budget"),
        ({"sampler": "oracle"}, "a sampler is one of"),
        ({"seed": -1}, "a seed"),
        ({"population": 1}, "a population"),
        ({"prune_recipe": 3}, "are Recipes"),
        ({"store": object()}, "store is"),
    ],
)
def test_what_is_refused_before_any_work(task: Task, arguments: dict[str, Any], told: str) -> None:
    calls = Counting()
    with pytest.raises(InvalidInputError, match=told):
        task.search(**{"executor": calls, **arguments})
    assert not calls.items


def test_scores_must_match_the_labels(task: Task) -> None:
    fewer = replace(task.data, labels=(*task.data.labels, "eleven"))
    with pytest.raises(InvalidInputError, match="one score for each of the 11 labels"):
        task.search(data=fewer)
    torch.manual_seed(0)
    maps = torch.nn.Conv2d(1, 10, 8)  # ten maps of one pixel, which the cross entropy does not take
    with pytest.raises(InvalidInputError, match=r"but the model gives \[10, 1, 1\] an input"):
        task._replace(model=maps).search()


def test_exported_programs_are_not_trained(task: Task) -> None:
    program = torch.export.export(task.model, (torch.zeros(2, *task.data.input_shape),))
    with pytest.raises(InvalidInputError, match=r"model is a torch.nn.Module, but got ExportedProgram"):
        task._replace(model=program).search()


def test_without_torchao_nothing_is_trained_first(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codesign_kernel.session.co_optimize.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"torchao, which is not installed; pip install .*epochs=\(0,\)"):
        task.search(networks=ck.NetworkSpace(epochs=(0, 2)))


def test_channels_that_cannot_go_are_refused(task: Task) -> None:
    with pytest.raises(UnsupportedLayerError, match="'fc' cannot be pruned"):
        task.search(networks=ck.NetworkSpace(keep={"fc": (0.5, 1.0)}))


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"bits": (3,)}, "bits has one or more"),
        ({"bits": ()}, "bits has one or more"),
        ({"bits": (8, 8)}, "bits has one or more"),
        ({"epochs": (-1,)}, "epochs has"),
        ({"epochs": (0.5,)}, "epochs has"),
        ({"epochs": (math.nan, 2.0)}, "epochs has"),
        ({"bits": (8.0,)}, "bits has one or more"),
        ({"keep": {"a": (0.0, 1.0)}}, "keep.a has"),
        ({"keep": {"a": "all"}}, "keep.a has"),
        ({"weight_bits": {"a": (3,)}}, "weight_bits.a has"),
    ],
)
def test_choices_that_are_none(choices: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        ck.NetworkSpace(**choices)


def test_numbers_of_networks() -> None:
    assert NETWORKS.size == 24
    several: dict[Any, set[int]] = {}
    for number in range(NETWORKS.size):
        chosen = NETWORKS.candidate(number)
        several.setdefault(chosen, set()).add(NETWORKS.canonical(number))
        assert NETWORKS.number(**NETWORKS.values(number)) == number
        assert NETWORKS.candidate(NETWORKS.canonical(number)) == chosen
    assert len(several) == 20
    assert all(len(numbers) == 1 for numbers in several.values()), "one number for one network"
    whole, *_, least = (NETWORKS.candidate(number) for number in NETWORKS.first()[:3])
    assert whole == (8, 0, (), ())
    assert least == (8, 0, (("conv1", 0.5), ("conv2", 0.25)), (("fc", 2),))
    with pytest.raises(InvalidInputError, match="numbered 0 to 23"):
        NETWORKS.values(24)


def test_what_is_chosen_where_nothing_is_said(task: Task) -> None:
    network = quantize(task.model, task.data.calibration_x)
    space = ck.NetworkSpace.of(task.model, task.data, network, bits=(4, 8))
    names = ["bits", "epochs", "keep.conv1", "keep.conv2", "weight_bits.conv1", "weight_bits.conv2", "weight_bits.fc"]
    assert [*space.choices] == names
