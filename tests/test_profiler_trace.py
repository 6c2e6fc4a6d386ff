"""The profiler on a running model: edges and names, the inputs it takes, and that the model is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from profiles import Apply, hooks_of, layers, meta, profiled
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import profile, zoo
from codesign_kernel.workload import Layer

# --- edges and names --------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """conv, in-place relu, conv, in-place add of the input, the same relu again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv1(x))
        y = self.conv2(x)
        y += x
        return self.relu(y).flatten(1)


def test_residual_edges_through_in_place_operators() -> None:
    model = nn.Sequential()
    model.add_module("block", Residual())
    result = profiled(model, torch.zeros(1, 4, 6, 6))
    names = ["block.conv1", "block.relu", "block.conv2", "block.add", "block.relu#2"]
    assert [layer.name for layer in result.workload.layers] == names
    assert result.workload.edges == (
        ("block.conv1", "block.relu"),
        ("block.relu", "block.conv2"),
        ("block.relu", "block.add"),
        ("block.conv2", "block.add"),
        ("block.add", "block.relu#2"),
    )


def test_edges_pass_views_copies_and_partial_writes() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        a, b = torch.relu(x).chunk(2, 1)
        c = torch.sigmoid(a.transpose(0, 1).contiguous().to(torch.float64)).float()
        out = torch.zeros(2, 4)
        out[:, :2] = torch.tanh(b)
        out[:, 2:] = c.T
        return out.exp()

    edges = profiled(Apply(forward), torch.zeros(2, 4)).workload.edges
    assert edges == (("relu", "sigmoid"), ("relu", "tanh"), ("sigmoid", "exp"), ("tanh", "exp"))


def test_freed_memory_is_not_taken_for_its_successor() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            torch.relu(x)  # dropped at once: the next tensor gets its address
            x = torch.sigmoid(x) + torch.tensor([1.0, 2.0])
        return x

    workload = profiled(Apply(forward), torch.zeros(2)).workload
    assert len(workload.layers) == 60
    assert not [edge for edge in workload.edges if edge[0].startswith("relu")]


def test_module_called_twice_and_functional_operators_get_unique_names() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.gate = Apply(lambda x: torch.sigmoid(x) * x)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(self.gate(F.relu(self.fc(self.fc(x)))))

    result = profiled(Net(), torch.zeros(2, 4))
    assert layers(result) == [
        ("fc", "linear"),
        ("fc#2", "linear"),
        ("relu", "relu"),
        ("gate.sigmoid", "sigmoid"),
        ("gate.mul", "mul"),
        ("relu#2", "relu"),
    ]
    assert [o.parameters for o in result.operators] == [20, 0, 0, 0, 0, 0]  # shared: with the first


def test_root_operator_and_module_of_the_same_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(F.relu(x))

    assert [name for name, _ in layers(profiled(Net(), torch.zeros(2)))] == ["relu", "relu#2"]


def test_constants_are_no_layers_and_their_parameters_go_to_the_user() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.positions = nn.Embedding(10, 4), nn.Embedding(7, 4)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.words(ids) + self.positions(torch.arange(ids.shape[1])) * 2

    result = profiled(Net(), torch.zeros(2, 5, dtype=torch.int64))
    assert layers(result) == [("words", "embedding"), ("add", "add")]
    assert [o.parameters for o in result.operators] == [40, 28]
    assert result.workload.layers[0] == Layer("words", "embedding", B=2, K=4, OX=5, IX=5)
    assert result.operators[0].input_bytes == 2 * 5 * 8


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_tensor_tuple_and_dict_inputs_agree() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
            return x if scale is None else x * scale

    x, scale = torch.zeros(2, 3), torch.zeros(3)
    positional, named = profiled(Net(), (x, scale)), profiled(Net(), {"scale": scale, "x": x})
    assert positional.workload == named.workload
    assert layers(named) == [("mul", "mul")]
    assert not profiled(Net(), x).workload.layers


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (nn.Linear, torch.zeros(1, 4), "got the class Linear; pass an instance"),
        (torch.relu, torch.zeros(1, 4), "must be a torch.nn.Module"),
        (nn.Linear(4, 2), [torch.zeros(1, 4)], "but got list; wrap it in a tuple"),
        (nn.Linear(4, 2), (1, 4), "at least one tensor"),
        (nn.Linear(4, 2), {0: torch.zeros(1, 4)}, "name arguments of forward, but got 0"),
        (nn.Linear(4, 2), torch.zeros(1, 4, device="meta"), "parameters are on a real device and inputs are on meta"),
        (nn.Linear(4, 2, device="meta"), torch.zeros(1, 4), "parameters are on the meta device and inputs are not"),
        (nn.LazyLinear(2), torch.zeros(1, 4), "'weight' is not initialised yet; run the model once"),
    ],
)
def test_wrong_arguments_are_told_before_anything_runs(model: Any, inputs: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        profile(model, inputs)


def test_failing_forward_names_the_module_and_leaves_nothing_behind() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(9, 2)))
    model[1].eval()
    hooks, flags = hooks_of(model), [m.training for m in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(InvalidInputError, match=r"module '1\.2' \(Linear\), given \(1, 144\), failed: ") as caught:
        profile(model, torch.zeros(1, 3, 8, 8))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert hooks_of(model) == hooks
    assert [m.training for m in model.modules()] == flags
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert model[0](torch.zeros(1, 3, 8, 8)).requires_grad


def test_missing_argument_names_the_model() -> None:
    with pytest.raises(InvalidInputError, match=r"the model \(Bilinear\), given \(1, 4\), failed: .*input2"):
        profile(nn.Bilinear(4, 4, 2), torch.zeros(1, 4))


def test_reading_values_on_meta_says_to_use_real_tensors() -> None:
    model = Apply(lambda x: x + x.sum().item())
    with pytest.raises(InvalidInputError, match="needs real tensors, not the meta device"):
        profile(model, meta(3))
    assert layers(profiled(model, torch.zeros(3))) == [("sum", "sum"), ("add", "add")]


def test_other_exceptions_pass_and_leave_nothing_behind() -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise KeyError("mine")

    model = Apply(fail)
    hooks = hooks_of(model)
    with pytest.raises(KeyError, match="mine"):
        profile(model, torch.zeros(3))
    assert hooks_of(model) == hooks
    assert model.training


def test_exception_caught_inside_the_model_does_not_disturb_paths() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outer = nn.Sequential(nn.Linear(5, 2))
            self.fc = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with pytest.raises(RuntimeError):
                self.outer(x)
            return self.fc(x)

    assert layers(profiled(Net(), torch.zeros(1, 4))) == [("fc", "linear")]


# --- the model stays as it was ----------------------------------------------------------------------------------------


def test_statistics_modes_and_trainability_are_untouched() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    model[1].eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    result = profiled(model, torch.ones(4, 1, 5, 5))
    assert layers(result) == [("0", "conv2d"), ("1", "batch_norm")]  # dropout does nothing in eval mode
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model] == [True, False, True]
    model(torch.ones(4, 1, 5, 5)).sum().backward()
    assert model[0].weight.grad is not None


def test_tensor_cached_in_forward_can_still_be_trained_with() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.cache = nn.Linear(4, 4), torch.empty(0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cache = self.cache if self.cache.numel() else torch.ones(4).cos()
            return self.fc(x) * self.cache

    model = Cached()
    profile(model, torch.zeros(1, 4))
    model(torch.ones(1, 4)).sum().backward()
    assert model.fc.weight.grad is not None


def test_compiled_model_is_profiled_as_the_model_itself() -> None:
    model, example = zoo.build("lenet5")
    assert profile(torch.compile(model, backend="eager"), example, "net") == profile(model, example, "net")
