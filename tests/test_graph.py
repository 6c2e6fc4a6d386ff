"""Networks of branches: the golden model of poolings and sums against plain loops, their laws, workload and file."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import IntegerLayer, IntegerNetwork


def plain(op, k, window=(1, 1), bits=8, name=None, multiplier=32768, shift=15, **settings):
    """A pooling or an addition of ``k`` channels, with the identity for a requantiser."""
    narrow, wide = (np.int16, np.int64) if bits == 16 else (np.int8, np.int32)
    ones = np.ones(k, np.int32)
    return IntegerLayer(
        name or op, op, np.ones((k, 1, *window), narrow), np.zeros(k, wide), ones * multiplier, ones * shift,
        groups=k, **settings,
    )  # fmt: skip


def conv(name, c, k, bits=8, f=3, seed=0, **settings):
    rng = np.random.default_rng(seed)
    top = 1 << (bits - 1)
    narrow, wide = (np.int16, np.int64) if bits == 16 else (np.int8, np.int32)
    weight = rng.integers(-top, top, (k, c, f, f)).astype(narrow)
    bias = rng.integers(-top * top, top * top, k).astype(wide)
    multiplier, shift = rng.integers(32768, 65536, k).astype(np.int32), np.full(k, 16 + bits, np.int32)
    return IntegerLayer(name, "conv2d", weight, bias, multiplier, shift, padding=(f // 2,) * 2, **settings)


def requantised(total, layer, k, bits):
    """One sum as the contract says, in Python's integers."""
    shift = int(layer.shift[k])
    value = (total * int(layer.multiplier[k]) + 2 ** (shift - 1)) // 2**shift
    value = min(max(value, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)
    return max(value, 0) if layer.relu else value


def walked(layer, image, bits):
    """A pooling of one map (C, H, W): every window, position by position."""
    fy, fx = layer.weight.shape[2:]
    (sy, sx), (py, px) = layer.stride, layer.padding
    channels, height, width = image.shape
    out = np.zeros((channels, (height + 2 * py - fy) // sy + 1, (width + 2 * px - fx) // sx + 1), np.int64)
    for k, y, x in np.ndindex(out.shape):
        inside = []
        for i in range(fy):
            for j in range(fx):
                iy, ix = y * sy + i - py, x * sx + j - px
                if 0 <= iy < height and 0 <= ix < width:
                    inside.append(int(image[k, iy, ix]))
        out[k, y, x] = requantised(max(inside) if layer.op == "max_pool2d" else sum(inside), layer, k, bits)
    return out


@pytest.mark.parametrize("seed", range(60))
def test_poolings_equal_plain_loops(seed):
    rng = np.random.default_rng(seed)
    op, bits = ("max_pool2d", "avg_pool2d")[seed % 2], (4, 8, 16)[seed % 3]
    window = tuple(int(v) for v in rng.integers(1, 5, 2))
    padding = tuple(int(rng.integers(0, f)) for f in window)
    edges = [max(1, f - 2 * p) + int(rng.integers(0, 5)) for f, p in zip(window, padding, strict=True)]
    layer = plain(
        op, 3, window, bits, stride=tuple(int(v) for v in rng.integers(1, 4, 2)), padding=padding,
        relu=bool(rng.integers(2)), multiplier=int(rng.integers(32768, 65536)),
        shift=int(rng.integers(15, 18 if op == "max_pool2d" else 20)),
    )  # fmt: skip
    network = IntegerNetwork("pooling", (3, *edges), 1.0, bits, (layer,))
    low, high = network.range
    x = rng.integers(low, high + 1, (2, 3, *edges))
    x[1] = rng.integers(low, 0, (3, *edges))  # below 0 everywhere: the padding's zeros would win a maximum
    got = network.predict(x)
    assert got.shape == (2, *network.shapes[1])
    for n in range(2):
        assert np.array_equal(got[n], walked(layer, x[n], bits))


def residual(bits=8, **changes):
    """A stem, a branch of two convolutions, the sum of both with ReLU, and poolings behind it."""
    layers = {
        "stem": conv("stem", 2, 4, bits, relu=True, scale=0.5),
        "a": conv("a", 4, 4, bits, seed=1, relu=True, scale=0.25),
        "b": conv("b", 4, 4, bits, seed=2, scale=0.5),
        "sum": plain("add", 4, bits=bits, name="sum", multiplier=40000, relu=True, scale=1.0, reads=("stem", "b")),
        "top": plain("max_pool2d", 4, (3, 3), bits, name="top", stride=(2, 2), padding=(1, 1), scale=1.0),
        "mean": plain("avg_pool2d", 4, (3, 2), bits, name="mean", multiplier=43691, shift=18),
    }  # fmt: skip
    for name, change in changes.items():
        layers[name] = dataclasses.replace(layers[name], **change)
    return IntegerNetwork("residual", (2, 6, 4), 0.5, bits, tuple(layers.values()))


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_branch_equals_plain_loops(bits):
    network = residual(bits)
    low, high = network.range
    x = np.random.default_rng(bits).integers(low, high + 1, (3, 2, 6, 4))
    stem, a, b, total, top, mean = network.layer_outputs(x)
    chain = IntegerNetwork("chain", (2, 6, 4), 0.5, bits, network.layers[:3])  # proved in test_integer
    assert all(np.array_equal(one, other) for one, other in zip((stem, a, b), chain.layer_outputs(x), strict=True))
    for n, k, y, xx in np.ndindex(total.shape):
        both = int(stem[n, k, y, xx]) + int(b[n, k, y, xx])
        assert total[n, k, y, xx] == requantised(both, network.layers[3], k, bits)
    assert total.max() == high  # the sums reach the clamp
    for n in range(3):
        assert np.array_equal(top[n], walked(network.layers[4], total[n], bits))
        assert np.array_equal(mean[n], walked(network.layers[5], top[n], bits))
    assert np.array_equal(network.predict(x), mean)


def test_the_input_can_be_skipped_to():
    first = conv("first", 2, 2, scale=0.5)
    total = plain("add", 2, reads=("input", "first"))
    network = IntegerNetwork("skip", (2, 3, 3), 0.5, 8, (first, total))
    x = np.random.default_rng(0).integers(-128, 128, (4, 2, 3, 3))
    inner, outer = network.layer_outputs(x)
    assert np.array_equal(outer, np.clip(inner + x, -128, 127))
    assert network.sources == ((-1,), (-1, 0))
    assert network.workload.edges == (("first", "add"),)


def test_a_large_batch_of_branches_runs_in_chunks(monkeypatch):
    network = residual()
    x = np.random.default_rng(3).integers(-128, 128, (5, 2, 6, 4))
    whole = network.layer_outputs(x)
    monkeypatch.setattr("codesign_kernel.optimize.integer.CHUNK_ELEMENTS", 200)  # 96 to a map: 2 images at a time
    assert all(np.array_equal(a, b) for a, b in zip(whole, network.layer_outputs(x), strict=True))


def test_workload_of_branches():
    load = residual().workload
    nests = {nest.name: nest for nest in load.layers}
    assert [(nest.name, nest.op) for nest in load.layers] == [
        ("stem", "conv2d"), ("stem.relu", "relu"), ("a", "conv2d"), ("a.relu", "relu"), ("b", "conv2d"),
        ("sum", "add"), ("sum.relu", "relu"), ("top", "max_pool2d"), ("mean", "avg_pool2d"),
    ]  # fmt: skip
    assert set(load.edges) == {
        ("stem", "stem.relu"), ("stem.relu", "a"), ("a", "a.relu"), ("a.relu", "b"), ("stem.relu", "sum"), ("b", "sum"),
        ("sum", "sum.relu"), ("sum.relu", "top"), ("top", "mean"),
    }  # fmt: skip
    top, total = nests["top"], nests["sum"]
    assert (top.G, top.K, top.C, top.FY, top.FX, top.stride, top.padding) == (1, 4, 4, 3, 3, (2, 2), (1, 1))
    assert (top.IY, top.IX, top.OY, top.OX) == (6, 4, 3, 2)
    assert (nests["mean"].FY, nests["mean"].FX, nests["mean"].OY, nests["mean"].OX) == (3, 2, 1, 1)
    assert (total.K, total.C, total.OY, total.OX, total.inputs, total.outputs) == (4, 4, 6, 4, 96, 96)
    assert load.macs == 6 * 4 * 9 * (2 * 4 + 4 * 4 + 4 * 4)


def test_branches_are_saved_and_digested(tmp_path):
    network = residual()
    loaded = IntegerNetwork.load(network.save(tmp_path / "net.npz"))
    assert loaded.digest == network.digest == pickle.loads(pickle.dumps(network)).digest
    assert loaded.layers[3].reads == ("stem", "b")
    assert loaded.sources == ((-1,), (0,), (1,), (0, 2), (3,), (4,))
    assert "reads=('stem', 'b')" in repr(network.layers[3])
    swapped = residual(sum={"reads": ("b", "stem")})
    assert swapped.digest != network.digest
    assert "reads" not in network.layers[0].settings()  # a chain's digest is what it was before there were branches


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: plain("add", 4), "reads of an addition names two different maps, but layer 'add' has \\(\\)"),
        (lambda: plain("add", 4, reads=("a", "a")), "two different maps"),
        (lambda: plain("add", 4, reads=("a", "b", "c")), "two different maps"),
        (lambda: plain("max_pool2d", 4, reads=("a", "b")), "reads names one map, and two only for op 'add'"),
        (lambda: plain("max_pool2d", 4, reads="a"), "reads is a tuple of names of layers, but .* has 'a'"),
        (lambda: plain("max_pool2d", 4, reads=("",)), "tuple of names"),
        (lambda: plain("max_pool2d", 4, name="input"), "'input' is the network's input"),
        (lambda: plain("add", 4, (2, 1), reads=("a", "b")), "'add' has a 1x1 window.* a window of 2x1"),
        (lambda: plain("add", 4, reads=("a", "b"), stride=(2, 1)), "'add' has a 1x1 window"),
        (lambda: plain("avg_pool2d", 4, (2, 2), padding=(1, 2)), "padding is smaller than the window of 2x2"),
        (lambda: plain("max_pool2d", 4, (3, 3), dilation=(2, 2)), "'max_pool2d' has dilation 1 and pool 1"),
        (lambda: plain("max_pool2d", 4, (3, 3), pool=2), "dilation 1 and pool 1, .* pool = 2"),
        (lambda: plain("max_pool2d", 4, flatten=True), "flatten is for linear layers"),
        (lambda: dataclasses.replace(plain("avg_pool2d", 4), weight=np.full((4, 1, 1, 1), 2, np.int8)), "is ones"),
        (lambda: dataclasses.replace(plain("avg_pool2d", 4), weight=np.ones((4, 2, 1, 1), np.int8)), "is ones"),
        (lambda: dataclasses.replace(plain("avg_pool2d", 4), groups=2), "groups = K and .* groups = 2"),
        (lambda: dataclasses.replace(plain("avg_pool2d", 4), bias=np.ones(4, np.int32)), "a bias of 1 to 1"),
        (lambda: residual(sum={"reads": ("stem", "c")}), "'sum' reads 'c', which is no layer; before it are 'input', "),
        (lambda: residual(a={"reads": ("b",)}), "'a' reads 'b', which is behind it"),
        (lambda: residual(a={"reads": ("a",)}), "'a' reads 'a', which is behind it"),
        (lambda: residual(b={"name": "a"}), "names are unique within a network, but 'a' occurs twice"),
        (lambda: residual(top={"reads": ("stem",)}), "nobody reads 'sum'"),
        (lambda: residual(b={"scale": 0.25}), "one scale, but 'sum' reads 0.5 and 0.25"),
        (lambda: residual(sum={"reads": ("b", "input")}, b={"reads": ("stem",)}), "nobody reads 'a'"),
        (lambda: residual(b={"pool": 2}), r"one shape .* 'sum' reads \(4, 6, 4\) and \(4, 3, 2\)"),
        (lambda: residual(mean={"weight": np.ones((4, 1, 4, 2), np.int8)}), "too small for a window of 4x2"),
        (lambda: IntegerNetwork("n", (3, 4, 4), 1.0, 8, (plain("avg_pool2d", 4),)), "reads 4 channels"),
        (lambda: IntegerNetwork("n", (2, 4, 4), 1.0, 8, (conv("c", 2, 4), plain("max_pool2d", 4, (2, 2),
            stride=(2, 2)))), "is that one's pool, but 'max_pool2d' is .* give 'c' pool = 2"),
    ],
)  # fmt: skip
def test_laws_of_branches(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


def test_a_pooling_that_cannot_be_fused_stays():
    twice = conv("c", 2, 4)
    square = plain("max_pool2d", 4, (2, 2), stride=(2, 2))
    wide = plain("max_pool2d", 4, (2, 2), stride=(2, 2), name="wide", reads=("c",))
    assert IntegerNetwork("pooled", (2, 8, 8), 1.0, 8, (dataclasses.replace(twice, pool=2), square)).shapes[-1] == (
        4, 2, 2,
    )  # fmt: skip
    both = plain("add", 4, reads=("max_pool2d", "wide"))
    assert IntegerNetwork("read twice", (2, 8, 8), 1.0, 8, (twice, square, wide, both)).sources[2] == (0,)
