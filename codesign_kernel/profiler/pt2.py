"""``.pt2`` files: the graph of an exported program, read from its JSON without torch's loader.

``torch.export.load`` is not used, because a file may come from anyone: it unpickles constants and sample inputs (with
``weights_only=False`` where the safe way fails: torch 2.13, ``torch/_export/serde/serialize.py``,
``deserialize_torch_artifact``) and hands expressions to ``sympy.sympify``, which evaluates them as Python. Here the
archive's directory, ``models/*.json`` and the tables of weights are all that is read; weights, constants and pickles
are never opened.

Format: ``torch/export/pt2_archive/constants.py`` and ``torch/_export/serde/schema.py``, schema version 8.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.exported import LARGEST, SCALARS, Graph, GraphCall, Name

#: Schema versions that are read here; the major number changes when the meaning of a field does.
SCHEMA_MAJOR = 8
#: A graph's JSON larger than this is refused: 32,000 operators take about 32 MiB.
JSON_BYTES = 128 << 20
#: Most entries in an archive: one for each weight, and some ten more.
ENTRIES = 100_000
TEXT = 200

#: ``ScalarType`` of torch/_export/serde/schema.py.
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 9: torch.complex32, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
    28: torch.uint16, 29: torch.float8_e4m3fn, 30: torch.float8_e5m2, 31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz, 34: torch.uint32, 35: torch.uint64,
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}


def read_pt2(path: Path) -> Graph:
    """The graph of the program in a ``.pt2`` file.

    Raises:
        InvalidInputError: not such a file, damaged, of another schema, or with operators besides ATen's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            program, weights = _program(archive, path.name)
        return _Reader(program, weights).graph()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError) as error:
        raise InvalidInputError(
            f"a .pt2 file is a zip archive, but {path.name} is damaged ({error}); save it again"
        ) from error
    except RecursionError as error:
        raise InvalidInputError(f"{path.name} nests values deeper than any network; save it again") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"a .pt2 file follows the schema of torch.export.save, but {path.name} does not "
            f"({type(error).__name__}: {str(error)[:TEXT]}); save it again"
        ) from error


def _program(archive: zipfile.ZipFile, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON of the only program in the archive, and the table of its weights."""
    infos = archive.infolist()
    if len(infos) > ENTRIES:
        raise InvalidInputError(f"a .pt2 file has at most {ENTRIES} entries, but {name} has {len(infos)}")
    models = [info for info in infos if _inside(info, "models") and info.filename.endswith(".json")]
    if len(models) != 1:
        legacy = any(info.filename.endswith("data.pkl") for info in infos)
        other = "it is a pickled module or TorchScript, which is never loaded" if legacy else f"it has {len(models)}"
        raise InvalidInputError(
            f"a .pt2 file holds one exported program, but in {name} {other}; write it with torch.export.save"
        )
    stem = Path(models[0].filename).stem
    tables = [i for i in infos if _inside(i, "data/weights") and i.filename.endswith(f"{stem}_weights_config.json")]
    return _json(archive, models[0]), _json(archive, tables[0]).get("config", {}) if tables else {}


def _inside(info: zipfile.ZipInfo, folder: str) -> bool:
    return info.filename.partition("/")[2].rpartition("/")[0] == folder


def _json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[str, Any]:
    if info.file_size > JSON_BYTES or (
        info.compress_type != zipfile.ZIP_STORED and info.file_size > 200 * info.compress_size
    ):
        raise InvalidInputError(
            f"a graph takes at most {JSON_BYTES >> 20} MiB, but {info.filename[:TEXT]!r} unpacks "
            f"{info.compress_size} to {info.file_size} bytes"
        )
    with archive.open(info) as stream:
        text = stream.read(info.file_size + 1)
    found = json.loads(text)
    if not isinstance(found, dict):
        raise InvalidInputError(f"{info.filename[:TEXT]!r} holds a JSON object; save the program again")
    return found


#: Arguments of the operators that open files (``aten::from_file``).
_OUTSIDE = frozenset({"filename", "path"})


class _Reader:
    """The plain graph out of the JSON of one program."""

    def __init__(self, program: dict[str, Any], weights: dict[str, Any]) -> None:
        major = program["schema_version"]["major"]
        if major != SCHEMA_MAJOR:
            raise InvalidInputError(
                f"programs of schema {SCHEMA_MAJOR} can be read, but this is schema {str(major)[:20]}; export it again "
                "with the torch that is installed here"
            )
        self.module = program["graph_module"]
        self.body = self.module["graph"]
        self.tensors = self.body["tensor_values"]
        self.weights = weights

    def graph(self) -> Graph:
        """The whole of it."""
        values: dict[str, Any] = {}
        parameters, inputs = [], []
        shared: dict[str, torch.Tensor] = {}
        for spec in self.module["signature"]["input_specs"]:
            ((kind, body),) = spec.items()
            argument = body["arg"] if kind != "constant_input" else body
            name = str(argument.get("name") or (argument.get("as_tensor") or {}).get("name"))
            if kind == "parameter":
                values[name] = shared.setdefault(self.stored(body["parameter_name"], name), self.tensor(name))
                parameters.append((name, str(body["parameter_name"])[:TEXT]))
            elif name in self.tensors:
                values[name] = self.tensor(name)
                if kind == "user_input":
                    inputs.append(name)
            elif kind == "user_input":
                values |= self.scalar_input(argument)
        calls = tuple(self.call(node) for node in self.body["nodes"])
        specs = [spec.get("user_output", {}).get("arg", {}) for spec in self.module["signature"]["output_specs"]]
        outputs = [str(arg["as_tensor"]["name"]) for arg in specs if "as_tensor" in arg]
        return Graph(values, tuple(parameters), tuple(inputs), calls, tuple(outputs))

    def stored(self, parameter: str, name: str) -> str:
        """Where a parameter is stored: two that share a file are one, but meta tensors all have the same file."""
        entry = self.weights.get(parameter, {})
        on_meta = entry.get("tensor_meta", {}).get("device", {}).get("type") == "meta"
        return name if on_meta else f"{entry.get('path_name', name)} {self.tensors[name]['sizes']}"

    def tensor(self, name: str) -> torch.Tensor:
        """A value on the meta device, of the shape that the file states."""
        stated = self.tensors[name]
        shape = [self.size(extent) for extent in stated["sizes"]]
        total = 1
        for extent in shape:
            total *= extent
            if extent < 0 or total > LARGEST:
                raise InvalidInputError(f"a tensor fits into memory, but {name[:TEXT]!r} has shape {shape[:8]}")
        return torch.empty(shape, dtype=DTYPES[stated["dtype"]], device="meta")

    def size(self, extent: dict[str, Any]) -> int:
        """A size; where it is free, the one that the program was exported with. Expressions are not evaluated."""
        stated = extent if "as_int" in extent else extent["as_expr"].get("hint") or {}
        found = stated.get("as_int")
        if not isinstance(found, int) or isinstance(found, bool):
            raise InvalidInputError(
                "a free size in a .pt2 file says what it was exported with, but one does not; export again"
            )
        return found

    def scalar_input(self, argument: dict[str, Any]) -> dict[str, Any]:
        """An input that is no tensor: a number, which the graph has as a constant, or a size."""
        name = (argument.get("as_sym_int") or {}).get("as_name")
        stated = self.body.get("sym_int_values", {}).get(name)
        return {name: self.size(stated)} if name and stated else {}

    def call(self, node: dict[str, Any]) -> GraphCall:
        """One operator; only ATen's, and arithmetic on sizes, are looked up."""
        target = _target(node["target"])
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for given in node["inputs"]:
            value = _argument(given["arg"])
            if given.get("kind") == 2 or (given["name"] and kwargs):
                kwargs[given["name"]] = value
            else:
                args.append(value)
        outputs = [_output(output) for output in node["outputs"]]
        single = len(outputs) == 1 and node.get("is_hop_single_tensor_return") is not False
        stack = str(node["metadata"].get("nn_module_stack", ""))
        path = stack.rpartition(";")[2].split(",")[1] if stack else ""
        return GraphCall(target, tuple(args), kwargs, outputs[0] if single else outputs, path[:TEXT], stack)


def _target(name: str) -> Any:
    parts = name.split(".")
    if name in SCALARS:
        return SCALARS[name]
    if len(parts) == 5 and parts[:3] == ["torch", "ops", "aten"]:
        packet = getattr(torch.ops.aten, parts[3], None)
        overload = getattr(packet, parts[4], None) if isinstance(packet, torch._ops.OpOverloadPacket) else None
        if isinstance(overload, torch._ops.OpOverload) and not _OUTSIDE & {a.name for a in overload._schema.arguments}:
            return overload
    raise InvalidInputError(
        f"a .pt2 file is profiled if all of its operators are ATen's, but one is {name[:TEXT]!r} (a custom operator, "
        "control flow, or no_grad inside forward); profile the module itself"
    )


def _output(output: dict[str, Any]) -> Any:
    ((kind, value),) = output.items()
    if kind == "as_tensor":
        return value["name"]
    if kind == "as_tensors":
        return [item["name"] for item in value]
    return value.get("as_name") if kind in ("as_sym_int", "as_sym_float", "as_sym_bool") else None


def _argument(argument: dict[str, Any]) -> Any:
    ((kind, value),) = argument.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Name(value["name"])
    if kind in ("as_int", "as_float", "as_bool", "as_string"):
        return value
    if kind in ("as_ints", "as_floats", "as_bools", "as_strings"):
        return list(value)
    if kind == "as_tensors":
        return [Name(item["name"]) for item in value]
    if kind == "as_optional_tensors":
        return [Name(item["as_tensor"]["name"]) if "as_tensor" in item else None for item in value]
    if kind == "as_optional_tensor":
        return Name(value["as_tensor"]["name"]) if "as_tensor" in value else None
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return _symbol(value)
    if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
        return [_symbol(item) for item in value]
    if kind == "as_scalar_type":
        return DTYPES[value]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_layout":
        return torch.strided
    if kind == "as_device":
        return torch.device("meta")
    raise InvalidInputError(
        f"a .pt2 file is profiled if its arguments are tensors and numbers, but one is {kind[:TEXT]!r}"
    )


def _symbol(value: dict[str, Any]) -> Any:
    ((kind, body),) = value.items()
    return Name(body) if kind == "as_name" else body
