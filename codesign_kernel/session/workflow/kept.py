"""Results as they are kept, plain data and bytes, and back again. Nothing that is read is executed.

The same result gives the same bytes, so that what was made twice is kept once, and its digest says whether it changed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign_kernel.cache import scratch_folder
from codesign_kernel.workload import Layer, Workload

if TYPE_CHECKING:
    import pandas as pd

    from codesign_kernel.cosim import CosimReport
    from codesign_kernel.design import Design
    from codesign_kernel.optimize import IntegerNetwork
    from codesign_kernel.profiler import Profile
    from codesign_kernel.rtl import RtlBundle


def json_bytes(data: object) -> bytes:
    """``data`` as JSON; numpy's numbers and arrays as Python's."""
    return (json.dumps(data, default=lambda value: value.tolist(), indent=1) + "\n").encode()


def plain(data: object) -> Any:
    """``data`` in JSON's own types."""
    return json.loads(json_bytes(data))


def workload_plain(workload: Workload) -> dict[str, Any]:
    """A workload as plain data."""
    layers = [asdict(layer) for layer in workload.layers]
    return {"name": workload.name, "layers": layers, "edges": workload.edges, "uncosted": dict(workload.uncosted)}


def _layer(told: Mapping[str, Any]) -> Layer:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return Layer(**fields)


def workload_of(told: Mapping[str, Any]) -> Workload:
    """The workload of :func:`workload_plain`."""
    layers = tuple(map(_layer, told["layers"]))
    return Workload(told["name"], layers, tuple(map(tuple, told["edges"])), told["uncosted"])


def profile_bytes(profile: Profile) -> bytes:
    """A profile as JSON."""
    operators = [{**vars(operator), "layer": operator.layer.name} for operator in profile.operators]
    names = ("name", "parameters", "parameter_bytes", "peak_activation_bytes", "activations")
    own = {name: getattr(profile, name) for name in names}
    inputs = [[list(shape), kind] for shape, kind in profile.inputs]
    return json_bytes({**own, "inputs": inputs, "operators": operators, "workload": workload_plain(profile.workload)})


def profile_of(content: bytes) -> Profile:
    """The profile of :func:`profile_bytes`."""
    from codesign_kernel.profiler import Profile
    from codesign_kernel.profiler.packing import activations_of
    from codesign_kernel.profiler.result import Operator

    told = json.loads(content)
    workload = workload_of(told.pop("workload"))
    layers = {layer.name: layer for layer in workload.layers}
    operators = tuple(Operator(**{**one, "layer": layers[one["layer"]]}) for one in told.pop("operators"))
    inputs = tuple((tuple(shape), kind) for shape, kind in told.pop("inputs"))
    alive = activations_of(told.pop("activations", []))  # stores of earlier releases have none
    return Profile(**told, workload=workload, operators=operators, inputs=inputs, activations=alive)


def arrays_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Arrays of numbers or texts by name."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: np.asarray(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    return stream.getvalue()


def arrays_of(content: bytes) -> dict[str, Any]:
    """The arrays of :func:`arrays_bytes`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """A frame of evaluations, exactly: its index is the number of the design."""
    columns = {f"{place}:{name}": _column(frame[name].to_numpy()) for place, name in enumerate(frame.columns)}
    return arrays_bytes({"design": frame.index.to_numpy(), **columns})


def _column(values: Any) -> Any:
    return values.astype(str) if values.dtype.kind == "O" else values


def frame_of(content: bytes) -> pd.DataFrame:
    """The frame of :func:`frame_bytes`."""
    import pandas as pd

    arrays = arrays_of(content)
    index = pd.Index(arrays.pop("design"), name="design")
    columns = {
        name.partition(":")[2]: values.astype(object) if values.dtype.kind == "U" else values
        for name, values in arrays.items()
    }
    return pd.DataFrame(columns, index=index)


def network_bytes(network: IntegerNetwork) -> bytes:
    """The file that :meth:`IntegerNetwork.save` writes."""
    with scratch_folder("network") as folder:
        return network.save(folder / "network.npz").read_bytes()


def network_of(content: bytes) -> IntegerNetwork:
    """The network of :func:`network_bytes`."""
    from codesign_kernel.optimize import IntegerNetwork

    with scratch_folder("network") as folder:
        path = folder / "network.npz"
        path.write_bytes(content)
        return IntegerNetwork.load(path)


def design_of(told: Mapping[str, Any]) -> Design:
    """The design whose machine has these fields, under ``machine``."""
    from codesign_kernel.accelerator import Accelerator, SpatialArray
    from codesign_kernel.design import Design

    return Design((SpatialArray if told["spatial"] else Accelerator)(**told["machine"]))


def bundle_of(told: Mapping[str, Any], texts: Mapping[str, str]) -> RtlBundle:
    """The bundle of what a record of it says, and of its texts by path."""
    from codesign_kernel.accelerator import Accelerator
    from codesign_kernel.rtl import RtlBundle

    files = {name: texts[name] for name in told["sources"]}
    bench = {name: texts[f"testbench/{name}"] for name in told["bench"]}
    memories = tuple((path, words) for path, words in told["memories"])
    return RtlBundle(Accelerator(**told["machine"]), told["top"], files, memories, bench)


def report_of(content: bytes, outputs: bytes) -> CosimReport:
    """The report of its JSON and of its outputs."""
    from codesign_kernel.accelerator.causes import Causes, LayerCauses
    from codesign_kernel.cosim import CosimReport
    from codesign_kernel.cosim.check import Mismatch
    from codesign_kernel.cosim.timing import InstructionMismatch

    told = json.loads(content)
    del told["passed"]
    causes = Causes(told["causes"]["pes"], tuple(LayerCauses(**layer) for layer in told["causes"]["layers"]))
    for name, kind in (("first_mismatch", Mismatch), ("first_instruction", InstructionMismatch)):
        told[name] = None if told[name] is None else kind(**told[name])
    return CosimReport(**{**told, "causes": causes, "outputs": arrays_of(outputs)["outputs"]})
