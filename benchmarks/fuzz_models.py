"""Damaged and hostile network files: 500 mutations of ONNX and .pt2 files, each of which must give a profile or a clear
error, within 10 s and 1 GiB, and never take this process down. Usage: fuzz_models.py [count] [seed]
"""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import isolated, profile, zoo

#: What goes into a number: nothing, signs, the ends of 32 and 64 bits, and sizes that no memory holds.
NUMBERS = (0, -1, 1, 2, 7, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 48, 1 << 62, (1 << 63) - 1, -(1 << 63))
TEXTS = ("", "x" * 10_000, "../../etc/passwd", "/etc/passwd", "\0", "conv1", "Loop", "__import__('os').system('true')")
TARGETS = (
    "torch.ops.aten.from_file.default", "torch.ops.aten.zeros.default", "torch.ops.aten.repeat.default", "os.system",
    "torch.ops.aten.unbind.int", "torch.ops.aten.split.Tensor", "torch.ops.aten.conv2d.default", "_operator.pow",
)  # fmt: skip


class Outcome(NamedTuple):
    """How one file ended: "profile", "error", or what went wrong; seconds; the message."""

    kind: str
    seconds: float
    message: str


def seeds(folder: Path) -> list[Path]:
    """Sound files to start from: two kinds of three networks."""
    paths = []
    for name in ("lenet5", "mlperf_tiny_kws", "mlperf_tiny_ad"):
        model, example = zoo.build(name, "cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (example,), str(folder / f"{name}.onnx"), dynamo=False)
            torch.export.save(torch.export.export(model, (example,)), str(folder / f"{name}.pt2"))
        paths += [folder / f"{name}.onnx", folder / f"{name}.pt2"]
    return paths


def mutate(data: bytes, kind: str, dice: random.Random) -> bytes:
    """One mutation of a file."""
    ways = (_flip, _cut, _splice, _onnx_field, _onnx_field, _onnx_graph, _onnx_field)
    if kind == ".pt2":
        ways = (_flip, _cut, _splice, _pt2_field, _pt2_field, _pt2_field, _bomb)
    return dice.choice(ways)(data, dice)


def _flip(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    end = dice.choice((min(len(data), 4_096), len(data)))
    for _ in range(dice.choice((1, 4, 64))):
        changed[dice.randrange(end)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.choice((0, 1, dice.randrange(len(data)), len(data) - dice.randrange(1, 200)))]


def _splice(data: bytes, dice: random.Random) -> bytes:
    a, b = sorted(dice.randrange(len(data)) for _ in range(2))
    return data[:b] + data[a:b] * dice.choice((0, 1, 2)) + data[b:] if dice.random() < 0.5 else data[:a] + data[b:]


def _onnx_field(data: bytes, dice: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    node = dice.choice(graph.node)
    way = dice.randrange(7)
    if way == 0:
        dice.choice(graph.initializer).dims[:] = [dice.choice(NUMBERS) for _ in range(dice.randrange(6))]
    elif way == 1:
        for dim in dice.choice(graph.input).type.tensor_type.shape.dim:
            dim.dim_value = dice.choice(NUMBERS)
    elif way == 2 and node.attribute:
        attribute = dice.choice(node.attribute)
        attribute.i = dice.choice(NUMBERS)
        attribute.ints[:] = [dice.choice(NUMBERS) for _ in range(dice.choice((0, 2, 4, len(attribute.ints))))]
        attribute.type = dice.choice((attribute.type, attribute.type, 1, 2, 7, 5))
    elif way == 3:
        node.op_type = dice.choice(
            ("Loop", "If", "Expand", "Reshape", "Tile", "Range", "LSTM", "Conv", "Split", "Pad", "Foo")
        )
    elif way == 4:
        tensor = dice.choice(graph.initializer)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=dice.choice(TEXTS))
    elif way == 5:
        dice.choice(graph.initializer).data_type = dice.choice((0, 1, 6, 7, 8, 11, 16, 20, 23, 99))
    else:
        model.opset_import[0].version = dice.choice((0, 1, 7, 99, 1 << 40))
    return bytes(model.SerializeToString())


def _onnx_graph(data: bytes, dice: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(data)
    nodes = model.graph.node
    way = dice.randrange(4)
    if way == 0:  # a cycle
        nodes[0].input[0] = nodes[-1].output[0]
    elif way == 1:
        del nodes[dice.randrange(len(nodes))]
    elif way == 2:  # a graph within a graph within a graph
        return data + _nested(dice.choice((5, 20, 1_000, 20_000)))
    else:
        size = onnx.helper.make_tensor("size", onnx.TensorProto.INT64, [3], [dice.choice(NUMBERS) for _ in range(3)])
        model.graph.initializer.append(size)
        nodes.append(
            onnx.helper.make_node(dice.choice(("ConstantOfShape", "Expand", "Tile")), ["size", "size"], ["big"])
        )
    return bytes(model.SerializeToString())


def _nested(depth: int) -> bytes:
    """The bytes of a model whose only node holds a graph whose only node holds a graph, and so on."""
    payload = b""
    for _ in range(depth):  # GraphProto.node = 1, NodeProto.attribute = 5, AttributeProto.g = 6
        for number in (6, 5, 1):
            payload = bytes([number << 3 | 2]) + _varint(len(payload)) + payload
    return bytes([7 << 3 | 2]) + _varint(len(payload)) + payload  # ModelProto.graph = 7


def _varint(number: int) -> bytes:
    parts = []
    while number >= 128:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _pt2_field(data: bytes, dice: random.Random) -> bytes:
    """One value somewhere in the graph's JSON."""

    def change(program: dict[str, Any]) -> None:
        graph = program["graph_module"]["graph"]
        node = dice.choice(graph["nodes"])
        if dice.random() < 0.25:
            node["target"] = dice.choice(TARGETS)
            return
        holder: Any = dice.choice((program, node, node, graph["tensor_values"], program["graph_module"]["signature"]))
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                return
            key = dice.choice(keys)
            if not isinstance(holder[key], dict | list) or not holder[key] or dice.random() < 0.1:
                break
            holder = holder[key]
        if isinstance(holder, dict) and dice.random() < 0.2:
            del holder[key]
        else:
            holder[key] = dice.choice(
                (*NUMBERS, *TEXTS, None, [], {}, {"as_expr": {"expr_str": TEXTS[-1], "hint": None}})
            )

    return _rewritten(data, change)


def _rewritten(data: bytes, change: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith("models/model.json"):
                program = json.loads(content)
                change(program)
                content = json.dumps(program).encode()
            new.writestr(info.filename, content)
    return out.getvalue()


def _bomb(data: bytes, dice: random.Random) -> bytes:
    """A graph that unpacks to far more than it takes in the file, or that nests without end."""
    content = dice.choice((b" " * (256 << 20), b"[" * 1_000_000, b'{"a":' * 200_000))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("a/models/model.json", content)
    return out.getvalue()


def attempt(path: Path) -> Outcome:
    """Profile one file."""
    start = time.monotonic()
    try:
        message, kind = f"{len(profile(path).operators)} operators", "profile"
    except InvalidInputError as error:
        message, kind = str(error), "error"
    return Outcome(kind, time.monotonic() - start, message)


def run(count: int, seed: int, folder: Path) -> list[Outcome]:
    """``count`` mutated files, one after the other."""
    dice = random.Random(seed)
    sources = [(path.suffix, path.read_bytes()) for path in seeds(folder)]
    profile(folder / "lenet5.onnx")  # the reading process starts before the clock does
    outcomes = []
    for number in range(count):
        kind, data = sources[number % len(sources)]
        path = folder / f"mutated{kind}"
        path.write_bytes(mutate(data, kind, dice))
        outcomes.append(attempt(path))
    return outcomes


def main() -> None:
    """Print what happened."""
    count, seed = (int(text) for text in (*sys.argv[1:], *("500", "0")[len(sys.argv) - 1 :]))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(count, seed, Path(folder))
    isolated.stop()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    ended = sum("ended the process" in outcome.message for outcome in outcomes)
    print(f"{count} files in {time.monotonic() - start:.0f} s: {dict(Counter(outcome.kind for outcome in outcomes))}")
    print(f"{ended} ended the reading process; slowest {slowest.seconds:.1f} s ({slowest.message[:100]})")
    print(f"peak memory of any reading process {peak:.0f} MiB")
    if slowest.seconds > 10 or peak > 1024:
        raise SystemExit("a file took longer than 10 s or more than 1 GiB")


if __name__ == "__main__":
    main()
