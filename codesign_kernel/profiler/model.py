"""``profile``: a network in (module, exported program, file, name), a Profile out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.assemble import assemble
from codesign_kernel.profiler.events import Trace
from codesign_kernel.profiler.isolated import Stated, profile_file
from codesign_kernel.profiler.lifetime import peak_bytes
from codesign_kernel.profiler.limits import Limits
from codesign_kernel.profiler.result import Profile
from codesign_kernel.profiler.table import FORMULAS

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

DEFAULT = Limits()


def profile(
    model: nn.Module | ExportedProgram | str | Path,
    example_inputs: Any = None,
    name: str | None = None,
    *,
    measure: bool = False,
    limits: Limits = DEFAULT,
) -> Profile:
    """Count what one forward pass of ``model`` computes, stores and moves.

    A module runs once, in eval mode and without gradients, on whatever device it is; on the meta device nothing is
    computed and no memory is needed. Nothing of the model changes: training flags are put back and no hook is left,
    also when forward raises. Programs and files run on the meta device, and always as inference; a file is read in a
    process of its own, and neither its weights nor any code in it are loaded (``pt2`` and ``onnx_file`` say how).

    Args:
        model: a ``torch.nn.Module``; a ``torch.export`` program; the path of a ``.pt2`` file (``torch.export.save``) or
            of an ``.onnx`` file; or the name of a network of ``zoo``, whose profile was made before and is read.
        example_inputs: for a module a tensor, a tuple of positional arguments, or a dict of keyword arguments. For the
            others it may be left out (their own input shapes are taken; a first dimension that an ONNX file leaves free
            is a batch of 1), or hold a tensor, a tuple, or for ONNX a dict by input name: only shapes and types matter.
        name: of the workload; by default the model's class, the file's or the zoo's name.
        measure: also run the module four times and give the wall time of each operator (``Profile.wall_us``, column
            ``wall_us`` of the table); for a module on a real device only.
        limits: what reading a file may cost.

    Raises:
        InvalidInputError: not such a model; inputs of the wrong kind or device; a forward that fails on them (the
            message names the module where); a file that is damaged, of another kind or too costly.
    """
    if measure and (isinstance(model, str | Path) or type(model).__name__ == "ExportedProgram"):
        raise InvalidInputError(
            "what is measured is a module on a real device, but this is a program, a file or a name; pass the module, "
            'such as profile(*zoo.build("resnet18", "cpu"), measure=True)'
        )
    if isinstance(model, str | Path):
        if isinstance(model, Path) or Path(model).suffix or os.sep in model:
            path = Path(model)
            stated = _stated(example_inputs)
            return profile_file(path, stated, name if name is not None else path.stem, limits)
        if example_inputs is None and name is None:
            from codesign_kernel.profiler.stored import stored_profile

            return stored_profile(model)  # what the rest would give, without loading torch
        from codesign_kernel.profiler import zoo

        module, inputs = zoo.build(model)
        return profile(
            module, inputs if example_inputs is None else example_inputs, name if name is not None else model
        )
    if type(model).__name__ == "ExportedProgram" and type(model).__module__.startswith("torch.export"):
        from codesign_kernel.profiler.exported import graph_of, trace_graph

        args, kwargs = _arguments(example_inputs) if example_inputs is not None else ((), {})
        return profile_of(
            *trace_graph(graph_of(cast("ExportedProgram", model)), _tensors((args, kwargs))),
            name if name is not None else "exported",
        )
    return _profile_module(model, example_inputs, name, measure)


def _profile_module(model: Any, example_inputs: Any, name: str | None, measure: bool) -> Profile:
    import torch

    from codesign_kernel.profiler.trace import trace

    if not isinstance(model, torch.nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else f"{type(model).__name__}"
        raise InvalidInputError(f"model must be a torch.nn.Module, but got {got}; pass an instance, such as MyNet()")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    args, kwargs = _arguments(example_inputs)
    tensors = _tensors((args, kwargs))
    if not tensors:
        raise InvalidInputError("example_inputs must hold at least one tensor, but hold none; pass torch.zeros(shape)")
    lazy = [path for path, p in model.named_parameters() if isinstance(p, torch.nn.parameter.UninitializedParameter)]
    if lazy:
        raise InvalidInputError(
            f"every parameter must have a shape, but {lazy[0]!r} is not initialised yet; run the model once first"
        )
    stored = {p.is_meta for p in model.parameters()}
    given = {tensor.is_meta for tensor in tensors}
    if len(stored | given) > 1:
        where = "the meta device" if True in stored else "a real device"
        raise InvalidInputError(
            f"model and example inputs must both be on the meta device or both be real, but parameters are on {where} "
            f"and inputs are {'not' if True in stored else 'on meta'}; use model.to('meta') and tensor.to('meta')"
        )
    title = name if name is not None else type(model).__name__
    times: list[float] = []
    if measure:
        if True in stored | given:
            raise InvalidInputError("the meta device computes nothing to measure; build the module on a real one")
        from codesign_kernel.profiler.measure import wall_us

        times = wall_us(model, args, kwargs, FORMULAS.keys())
    return profile_of(trace(model, args, kwargs, FORMULAS.keys()), tensors, title, times)


def profile_of(trace: Trace, inputs: Sequence[Tensor], name: str, times: Sequence[float] = ()) -> Profile:
    """The profile of a trace, whatever it was recorded from; ``times``: microseconds of each of its events."""
    found = assemble(trace, name)
    first = {event: layer for layer, event in reversed([*enumerate(found.events)])}
    return Profile(
        name=name,
        workload=found.workload,
        operators=found.operators,
        parameters=sum(p.size for p in trace.parameters),
        parameter_bytes=sum(p.bytes for p in trace.parameters),
        inputs=tuple((tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in inputs),
        peak_activation_bytes=peak_bytes(found.activations, len(found.operators)),
        activations=found.activations,
        wall_us=tuple(times[e] if first[e] == i else 0.0 for i, e in enumerate(found.events)) if times else (),
    )


def _tensors(value: Any) -> list[Tensor]:
    import torch

    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _stated(example_inputs: Any) -> list[Stated] | dict[str, Stated]:
    """Shapes and types of example inputs, for the process that reads the file."""
    if example_inputs is None:
        return []
    args, kwargs = _arguments(example_inputs)
    if kwargs:
        wrong = [key for key, value in kwargs.items() if not hasattr(value, "dtype")]
        if wrong:
            raise InvalidInputError(f"example inputs of a file are tensors, but {wrong[0]!r} is not one")
        return {key: _shape_of(value) for key, value in kwargs.items()}
    return [_shape_of(tensor) for tensor in _tensors(args)]


def _shape_of(tensor: Tensor) -> Stated:
    return list(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, tuple):
        return example_inputs, {}
    if isinstance(example_inputs, Mapping):
        wrong = [key for key in example_inputs if not isinstance(key, str)]
        if wrong:
            raise InvalidInputError(f"keys of a dict of example inputs name arguments of forward, but got {wrong[0]!r}")
        return (), dict(example_inputs)
    raise InvalidInputError(
        "example_inputs must be a tensor, a tuple of positional arguments or a dict of keyword arguments, but got "
        f"{type(example_inputs).__name__}; wrap it in a tuple, or turn an array into a tensor with torch.as_tensor"
    )
