"""ONNX files that are made node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def stored(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def written(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], tensors: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
        ).SerializeToString()
    )
    return path


def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def keras_like(path: Path, batch: Any = "unk__1") -> Path:
    """NHWC outside, NCHW inside; padding that differs by side; a mean in NHWC; a dense layer as MatMul and Add."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["x1"], perm=[0, 3, 1, 2]),
        node("Conv", ["x1", "w1", "b1"], ["c1"], "conv", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Transpose", ["c1"], ["c2"], perm=[0, 2, 3, 1]),
        node("Relu", ["c2"], ["r1"], "relu"),
        node("Mul", ["r1", "gain"], ["r2"], "gain"),
        node("Transpose", ["r2"], ["r3"], perm=[0, 3, 1, 2]),
        node("Conv", ["r3", "w2"], ["d1"], "depthwise", group=8, pads=[0, 0, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["d1", "g", "b", "s", "s"], ["d2"], "bn"),
        node("Transpose", ["d2"], ["d3"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["d3"], ["m"], "mean", axes=[1, 2], keepdims=0),
        node("MatMul", ["m", "w3"], ["f1"], "dense/MatMul"),
        node("Add", ["f1", "b3"], ["f2"], "dense/BiasAdd"),
        node("Softmax", ["f2"], ["y"], "softmax"),
    ]
    tensors = [stored("w1", 8, 3, 3, 3), stored("b1", 8), stored("gain", 8), stored("w2", 8, 1, 3, 3)]
    tensors += [stored("g", 8), stored("b", 8), stored("s", 8), stored("w3", 8, 5), stored("b3", 5)]
    return written(path, nodes, [value("x", [batch, 32, 32, 3])], [value("y", [batch, 5])], tensors)
