"""Operators that exporters write as several nodes, put together again: what torch runs as one operator is one here.

Each pattern is a function ``(Nodes, node) -> bool``; ``node`` is the last of its nodes, which the whole replaces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod

from codesign_kernel.profiler.onnx_file.structure import Initializer, Node, Structure


class Nodes:
    """Who makes and who uses each value, and which values do not depend on the network's input."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.makers = {name: node for node in structure.nodes for name in node.outputs if name}
        self.uses = Counter(name for node in structure.nodes for name in node.inputs if name)
        self.uses.update(structure.outputs)
        self.gone: set[int] = set()
        self.fixed = set(structure.initializers)
        for node in structure.nodes:
            if node.op in ("Shape", "Size", "Constant") or all(not name or name in self.fixed for name in node.inputs):
                self.fixed.update(node.outputs)

    def maker(self, name: str, *ops: str) -> Node | None:
        """The node that makes ``name`` for one user alone, if it is one of ``ops`` (any where none is given)."""
        node = self.makers.get(name)
        if node is None or id(node) in self.gone or self.uses[name] != 1 or (ops and node.op not in ops):
            return None
        return node

    def scalar(self, name: str) -> bool:
        """Whether ``name`` may be a number that does not depend on the input."""
        stored = self.structure.initializers.get(name) or self.constant(name)
        return name in self.fixed and (stored is None or prod(stored.shape) == 1)

    def constant(self, name: str) -> Initializer | None:
        """The tensor that a Constant node makes."""
        node = self.makers.get(name)
        value = node.attributes.get("value") if node is not None and node.op == "Constant" else None
        return value if isinstance(value, Initializer) else None

    def number(self, name: str) -> float | None:
        """The value of a stored number."""
        stored = self.structure.initializers.get(name) or self.constant(name)
        return float(stored.values) if stored and stored.values is not None and stored.values.numel() == 1 else None

    def replace(self, node: Node, op: str, inputs: list[str], *parts: Node | None) -> bool:
        """Make ``node`` an ``op`` on ``inputs``; the other ``parts`` go."""
        self.gone.update(id(part) for part in parts if part is not None and part is not node)
        node.op, node.inputs, node.attributes = op, inputs, {}
        return True


def _other(node: Node, name: str) -> str:
    """The second operand of a node of two."""
    return node.inputs[1] if node.inputs[0] == name else node.inputs[0]


def linear(nodes: Nodes, node: Node) -> bool:
    """MatMul by a stored matrix, then Add of a stored row: torch's linear."""
    if node.op != "Add" or len(node.inputs) != 2:
        return False
    for name in node.inputs:
        product, bias = nodes.maker(name, "MatMul"), nodes.structure.initializers.get(_other(node, name))
        if product and bias and len(bias.shape) == 1 and product.inputs[1] in nodes.fixed:
            return nodes.replace(node, "Linear", [*product.inputs, bias.name], product)
    return False


def gated(nodes: Nodes, node: Node) -> bool:
    """x times its own sigmoid or hard sigmoid: SiLU and hard swish."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return False
    for name in node.inputs:
        gate = nodes.maker(name, "Sigmoid", "HardSigmoid")
        if gate and gate.inputs == [_other(node, name)]:
            return nodes.replace(node, "Silu" if gate.op == "Sigmoid" else "HardSwish", gate.inputs, gate)
    return False


def gelu(nodes: Nodes, node: Node) -> bool:
    """x / 2 (1 + erf(x / sqrt 2)), or x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), in any order of factors: one
    curve, one or two sums, and nothing that varies but x."""
    if node.op != "Mul":
        return False
    parts = _up(nodes, node, {"Mul", "Add", "Div", "Pow", "Erf", "Tanh"}, 16)
    count = Counter(part.op for part in parts)
    if (count["Erf"], count["Tanh"], count["Add"]) not in ((1, 0, 1), (0, 1, 2)) or count["Mul"] + count["Div"] < 3:
        return False
    half = any(nodes.number(name) == (2 if part.op == "Div" else 0.5) for part in parts for name in part.inputs)
    made = {name for part in parts for name in part.outputs}
    outside = {name for part in parts for name in part.inputs} - made - nodes.fixed
    return half and len(outside) == 1 and nodes.replace(node, "Gelu", [*outside], *parts)


def _up(nodes: Nodes, node: Node, ops: set[str], limit: int = 8) -> list[Node]:
    """``node`` and the nodes above it that are of ``ops`` and are used by it alone."""
    found = [node]
    for current in found:
        if len(found) > limit:
            break
        found += [maker for name in current.inputs if (maker := nodes.maker(name, *ops))]
    return found


def _unscaled(nodes: Nodes, name: str, gone: list[Node]) -> str:
    """``name`` before it was multiplied or divided by a number."""
    node = nodes.maker(name, "Mul", "Div")
    if node is None or len(node.inputs) != 2:
        return name
    for operand in node.inputs[:1] if node.op == "Div" else node.inputs:
        if operand not in nodes.fixed and nodes.scalar(_other(node, operand)):
            gone.append(node)
            return operand
    return name


def attention(nodes: Nodes, node: Node) -> bool:
    """MatMul, scale, mask, Softmax, MatMul: scaled dot-product attention on (query, transposed key, value, mask)."""
    if node.op != "MatMul" or len(node.inputs) != 2 or node.inputs[1] in nodes.fixed:
        return False
    softmax = nodes.maker(node.inputs[0], "Softmax")
    if softmax is None or softmax.attributes.get("axis", -1) not in (-1, 3):
        return False
    gone, mask = [softmax], ""
    scores = _unscaled(nodes, softmax.inputs[0], gone)
    added = nodes.maker(scores, "Add")
    if added is not None and len(added.inputs) == 2:
        first = next((n for n in added.inputs if nodes.maker(n, "MatMul", "Mul", "Div")), "")
        mask = _other(added, first)
        gone.append(added)
        scores = _unscaled(nodes, first, gone)
    product = nodes.maker(scores, "MatMul")
    if product is None or any(name in nodes.fixed for name in product.inputs):
        return False
    query, key = (_unscaled(nodes, name, gone) for name in product.inputs)
    return nodes.replace(node, "Attention:", [query, key, node.inputs[1], mask], product, *gone)


def layer_norm(nodes: Nodes, node: Node) -> bool:
    """(x - mean) / sqrt(variance + eps) * scale + offset, as written before opset 17."""
    if node.op != "Add" or len(node.inputs) != 2:
        return False
    for name in node.inputs:
        scaled = nodes.maker(name, "Mul")
        div = next((m for n in scaled.inputs if (m := nodes.maker(n, "Div"))), None) if scaled else None
        if scaled is None or div is None:
            continue
        centred, root = nodes.makers.get(div.inputs[0]), nodes.maker(div.inputs[1], "Sqrt")
        parts = _up(nodes, root, {"Sqrt", "Add", "ReduceMean", "Pow", "Mul"}) if root else []
        ops = [part.op for part in parts]
        if centred is None or centred.op != "Sub" or ops[:3] != ["Sqrt", "Add", "ReduceMean"]:
            continue
        mean = nodes.maker(centred.inputs[1], "ReduceMean")
        weights = [_other(scaled, div.outputs[0]), _other(node, name)]
        if mean and mean.inputs[0] == centred.inputs[0] and set(weights) <= nodes.fixed:
            return nodes.replace(
                node, "LastNormalization", [mean.inputs[0], *weights], scaled, div, centred, mean, *parts
            )
    return False


def rms_norm(nodes: Nodes, node: Node) -> bool:
    """x / sqrt(mean(x^2) + eps) * scale, with Div or with Reciprocal and Mul."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return False
    for name in node.inputs:
        normed, scale = nodes.maker(name, "Mul", "Div"), _other(node, name)
        if normed is None or scale not in nodes.fixed or len(normed.inputs) != 2:
            continue
        for factor in normed.inputs:
            parts = _up(nodes, node_of, _RMS) if (node_of := nodes.maker(factor, "Reciprocal", "Sqrt", "Div")) else []
            ops = [part.op for part in parts if part.op not in ("Reciprocal", "Div")]
            x = _other(normed, factor)
            if (above := nodes.makers.get(x)) is not None and above.op == "Sub":
                continue  # of a layer normalisation, which ends one node later
            if ops[:3] == ["Sqrt", "Add", "ReduceMean"] and ops[3:] in (["Pow"], ["Mul"]) and x in parts[-1].inputs:
                return nodes.replace(node, "RmsNormalization", [x, scale], normed, *parts)
    return False


_RMS = {"Sqrt", "Add", "ReduceMean", "Pow", "Mul"}
PATTERNS: tuple[Callable[[Nodes, Node], bool], ...] = (layer_norm, rms_norm, linear, gated, gelu, attention)


def put_together(structure: Structure) -> list[Node]:
    """The nodes of a structure, in order, with the patterns above replaced."""
    nodes = Nodes(structure)
    for node in structure.nodes:
        for pattern in PATTERNS:
            if id(node) not in nodes.gone and pattern(nodes, node):
                break
    return [node for node in structure.nodes if id(node) not in nodes.gone]
