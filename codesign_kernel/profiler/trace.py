"""One forward pass of a torch model, recorded as plain events; the only part of the profiler that runs torch.

How the forward is watched: a dispatch mode sees every operator, below autograd, so that functional operators such as
``linear`` or ``scaled_dot_product_attention`` arrive whole; those that the formula table does not know are taken
apart into simpler ones. Module paths come from torch's global module hooks, so the model itself is never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.events import Event, Parameter, TensorRef, Trace

#: What torch raises for arguments that do not fit an operator.
FORWARD_ERRORS = (RuntimeError, ValueError, TypeError, IndexError)


@dataclass
class _Call:
    """A module that is running: its path, its number among all calls, and the shapes it was given."""

    path: str
    number: int
    module: nn.Module | None
    shapes: str
    leaf: bool = False


def trace(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    atomic: Collection[str],
    recorder_type: type[Recorder] | None = None,
) -> Trace:
    """Run ``model(*args, **kwargs)`` once and record its operators.

    The model runs in eval mode without gradients; training flags, random state and torch's own switches are put back,
    also when forward raises.

    Args:
        atomic: operators to record whole, by base name (``linear``); others are taken apart as far as torch can.
        recorder_type: a kind of ``Recorder`` that also does something around each operator.

    Raises:
        InvalidInputError: forward raised; the message names the module it failed in and the shapes that module got.
    """
    recorder = (recorder_type or Recorder)(model.named_parameters(), atomic)
    recorder.paths = {id(module): path for path, module in model.named_modules()}
    inputs = tuple(recorder.ref(tensor) for tensor in _tensors((args, kwargs)))
    with ExitStack() as stack:
        stack.enter_context(_eval_mode(model))
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices(model)))
        stack.enter_context(_module_hooks(recorder))
        stack.enter_context(recorder.recording())
        try:
            result = model(*args, **kwargs)
        except FORWARD_ERRORS as error:
            raise InvalidInputError(_where(recorder, model, args, kwargs, error)) from error
    outputs = tuple(recorder.ref(tensor) for tensor in _tensors(result))
    return Trace(tuple(recorder.events), inputs, recorder.parameters, outputs)


class Recorder(TorchDispatchMode):
    """Writes one event for each operator that makes or changes a tensor.

    ``calls`` is the stack of modules that are running; whoever runs a graph in place of modules sets it with ``at``.
    """

    def __init__(self, parameters: Iterable[tuple[str, torch.Tensor]], atomic: Collection[str]) -> None:
        super().__init__()
        self.atomic = atomic
        self.events: list[Event] = []
        self.calls: list[_Call] = [_Call("", 0, None, "")]
        self.count = 0
        self.paths: dict[int, str] = {}
        self._paused = False
        self._numbers: dict[int, int] = {}
        self._held: list[Any] = []
        self.parameters = tuple(
            Parameter(name, self.ref(p).storage, p.numel(), p.numel() * p.element_size()) for name, p in parameters
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside, without gradients and without the fused transformer layer."""
        with _slow_attention(), torch.no_grad(), torch._C._AutoDispatchBelowAutograd(), self:
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run what is inside without recording it."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def at(self, path: str, number: int, leaf: bool) -> None:
        """The next operators run in the call ``number`` of the module at ``path``."""
        self.calls = [_Call(path, number, None, "", leaf)]

    def record(self, op: str, args: dict[str, Any], *outputs: torch.Tensor) -> None:
        """Write the event of an operator that torch did not run: ``args`` by schema name, tensors among them."""
        if self._paused:
            return
        call = self.calls[-1]
        refs = tuple(self.ref(tensor) for tensor in outputs)
        bound = {name: self._plain(value) for name, value in args.items()}
        self.events.append(Event(op, bound, refs, (), call.path, call.number, call.leaf))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # guarding this mode against torch.compile would import it: seconds, for nothing

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused or not isinstance(func, torch._ops.OpOverload) or func.namespace == "prim":
            return func(*args, **kwargs)
        name = _base_name(func)
        if name not in self.atomic:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        bound, written = self._bind(func, args, kwargs)
        result = self.call(func, args, kwargs)
        outputs = tuple(self.ref(tensor) for tensor in _tensors(result))
        if outputs or written:
            call = self.calls[-1]
            self.events.append(Event(name, bound, outputs, written, call.path, call.number, call.leaf))
        return result

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one recorded operator."""
        return func(*args, **kwargs)

    def ref(self, tensor: torch.Tensor) -> TensorRef:
        """What is kept of a tensor. Storages are numbered; a weak reference keeps a freed one's address from reuse."""
        try:
            storage: Any = tensor.untyped_storage()
            key, stored = storage._cdata, storage.nbytes()
        except (NotImplementedError, RuntimeError):  # a layout without storage, such as sparse: hold the tensor itself
            storage, key, stored = None, -id(tensor), 0
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._held.append(tensor if storage is None else StorageWeakRef(storage))
        size = tensor.element_size()
        return TensorRef(self._numbers[key], tuple(tensor.shape), size, tensor.numel() * size >= stored)

    def _bind(self, func: Any, args: Any, kwargs: Any) -> tuple[dict[str, Any], tuple[TensorRef, ...]]:
        """Arguments by the name in the operator's schema, and the tensors among them that it writes."""
        bound: dict[str, Any] = {}
        written: list[TensorRef] = []
        for position, argument in enumerate(func._schema.arguments):
            if position < len(args):
                value = args[position]
            elif argument.name in kwargs:
                value = kwargs[argument.name]
            else:
                value = argument.default_value
            value = self._plain(value)
            if argument.alias_info is not None and argument.alias_info.is_write:
                written.extend(_refs(value))
                if argument.name == "out":  # written without being read
                    continue
            bound[argument.name] = value
        return bound, tuple(written)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.ref(value)
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value]
        return value

    def enter(self, module: nn.Module, args: Any) -> None:
        """Pre-hook of every module: push the call."""
        path = self.paths.get(id(module))
        if path is not None:
            self.count += 1
            leaf = next(module.children(), None) is None
            self.calls.append(_Call(path, self.count, module, shapes_of(args), leaf))

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Hook of every module: pop the call, and with it any deeper one whose exception was caught on the way."""
        if id(module) in self.paths:
            while len(self.calls) > 1 and self.calls.pop().module is not module:
                pass


def _base_name(func: Any) -> str:
    name = func._schema.name.split("::")[1]
    if name.endswith("_") and not name.endswith("__"):  # relu_ is relu, written in place
        name = name[:-1]
    return name if func.namespace == "aten" else f"{func.namespace}::{name}"


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    leaves = torch.utils._pytree.tree_leaves(value)
    return (leaf for leaf in leaves if isinstance(leaf, torch.Tensor))


def _refs(value: Any) -> Iterator[TensorRef]:
    if isinstance(value, TensorRef):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _refs(item)


def shapes_of(value: Any) -> str:
    """The shapes of the tensors in ``value``, for messages."""
    return ", ".join(str(tuple(tensor.shape)) for tensor in _tensors(value))


def _where(recorder: Recorder, model: nn.Module, args: Any, kwargs: Any, error: Exception) -> str:
    call = recorder.calls[-1]
    module = call.module if call.module is not None else model
    place = f"module {call.path!r} ({type(module).__name__})" if call.path else f"the model ({type(module).__name__})"
    shapes = call.shapes or (shapes_of((args, kwargs)) if not call.path else "no positional tensor")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    meta = any(tensor.is_meta for tensor in _tensors((args, kwargs)))
    advice = " (a forward that reads values needs real tensors, not the meta device)" if meta else ""
    return (
        f"forward must run on the example inputs, but {place}, given {shapes}, failed: {reason}; "
        f"pass example inputs of the shape and type that forward expects{advice}"
    )


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    # the flags are set one by one: an overridden train() or eval() may do more than that (merge weights, for example)
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def _slow_attention() -> Iterator[None]:
    """Without the fused transformer layer, which would hide the operators inside it."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _module_hooks(recorder: Recorder) -> Iterator[None]:
    before = register_module_forward_pre_hook(recorder.enter)
    after = register_module_forward_hook(recorder.leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    return sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)
