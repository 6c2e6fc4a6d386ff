"""IntegerNetwork: the golden model against plain loops over every index, its laws, its workload and its file."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from codesign_kernel.errors import InvalidInputError, OutputError
from codesign_kernel.optimize import IntegerLayer, IntegerNetwork
from codesign_kernel.optimize.golden import requantise


def loops(layer, image, bits):
    """One layer for one map (C, H, W) as the contract says it, one index after the other, in Python's integers."""
    if layer.flatten:
        image = image.reshape(-1, 1, 1)
    channels, height, width = image.shape
    k_all, c_group, fy_all, fx_all = layer.weight.shape
    (sy, sx), (py, px), (dy, dx) = layer.stride, layer.padding, layer.dilation
    out_y = (height + 2 * py - dy * (fy_all - 1) - 1) // sy + 1
    out_x = (width + 2 * px - dx * (fx_all - 1) - 1) // sx + 1
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    q = np.zeros((k_all, out_y, out_x), np.int64)
    for k in range(k_all):
        first = k // (k_all // layer.groups) * c_group
        for y in range(out_y):
            for x in range(out_x):
                acc = int(layer.bias[k])
                for c in range(c_group):
                    for fy in range(fy_all):
                        for fx in range(fx_all):
                            iy, ix = y * sy - py + fy * dy, x * sx - px + fx * dx
                            if 0 <= iy < height and 0 <= ix < width:
                                acc += int(layer.weight[k, c, fy, fx]) * int(image[first + c, iy, ix])
                shift = int(layer.shift[k])
                value = (acc * int(layer.multiplier[k]) + 2 ** (shift - 1)) // 2**shift
                value = min(max(value, low), high)
                q[k, y, x] = max(value, 0) if layer.relu else value
    assert first + c_group == channels
    p = layer.pool
    pooled = np.zeros((k_all, out_y // p, out_x // p), np.int64)
    for k, y, x in np.ndindex(pooled.shape):
        pooled[k, y, x] = max(int(q[k, y * p + i, x * p + j]) for i in range(p) for j in range(p))
    return pooled


def conv_layer(rng, bits=8, name="conv", channels=2, k=4, f=(3, 3), **settings):
    """A layer of random integers whose results spread over the range."""
    top = 2 ** (bits - 1)
    narrow, long = (np.int16, np.int64) if bits == 16 else (np.int8, np.int32)
    groups = settings.get("groups", 1)
    reach = channels // groups * f[0] * f[1]
    multiplier = rng.integers(32768, 65536, k)
    shift = np.full(k, 15 + max(1, round(np.log2(top * np.sqrt(reach)))))
    return IntegerLayer(
        name,
        settings.pop("op", "conv2d"),
        rng.integers(-top, top, (k, channels // groups, *f)).astype(narrow),
        rng.integers(-top * top, top * top, k).astype(long),
        multiplier.astype(np.int32),
        shift.astype(np.int32),
        **settings,
    )


@pytest.mark.parametrize("seed", range(80))
def test_golden_model_equals_plain_loops(seed):
    rng = np.random.default_rng(seed)
    bits = int(rng.choice([4, 8])) if seed < 60 else 16
    groups = int(rng.choice([1, 1, 2, 3]))
    channels = groups * int(rng.integers(1, 3))
    k = channels if seed % 4 == 0 and groups == channels else groups * int(rng.integers(1, 3))
    f = tuple(int(v) for v in rng.integers(1, 4, 2))
    pairs = {name: tuple(int(v) for v in rng.integers(*span, 2)) for name, span in
             {"stride": (1, 4), "padding": (0, 3), "dilation": (1, 3)}.items()}  # fmt: skip
    pool = seed % 3 + 1
    edges = []
    for i in range(2):  # the smallest map that still fills a pooling window, and a bit more
        need = pairs["dilation"][i] * (f[i] - 1) + 1 + pairs["stride"][i] * (pool - 1) - 2 * pairs["padding"][i]
        edges.append(max(1, need) + int(rng.integers(0, 4)))
    conv = conv_layer(
        rng, bits, channels=channels, k=k, f=f, groups=groups, relu=bool(rng.integers(2)), pool=pool, **pairs
    )
    shape = (channels, *edges)
    inner = conv.output_shape(shape)
    linear = conv_layer(rng, bits, "fc", int(np.prod(inner)), 3, (1, 1), op="linear", flatten=True)
    network = IntegerNetwork("random", shape, 0.5, bits, (conv, linear))
    x = rng.integers(network.range[0], network.range[1] + 1, (3, *shape)).astype(network.dtype)
    maps, result = network.layer_outputs(x)
    assert maps.shape == (3, *inner) == (3, *network.shapes[1])
    for n in range(3):
        expected = loops(conv, x[n], bits)
        assert np.array_equal(maps[n], expected)
        assert np.array_equal(result[n], loops(linear, expected, bits)[:, 0, 0])
    assert np.array_equal(network.predict(x), result)


def test_requantisation_rounds_halves_up_for_negative_numbers_too():
    # multiplier / 2^shift = 1/2: 3/2 -> 2, -1/2 -> 0, -3/2 -> -1, -5/2 -> -2; and both ends of the clamp
    total = np.array([3, 1, 0, -1, -3, -5, 300, -300])
    one = np.ones(8, np.int32)
    assert requantise(total, one, one, 8).tolist() == [2, 1, 0, 0, -1, -2, 127, -128]
    assert requantise(total, one, one, 4).tolist() == [2, 1, 0, 0, -1, -2, 7, -8]
    # 100 * 40000 / 2^20 = 3.81 -> 4; -100 -> -3.81 -> -4; 65535 * 2^31 / 2^47 = 0.99998 -> 1
    wide = requantise(np.array([100, -100]), np.full(2, 40000, np.int32), np.full(2, 20, np.int32), 8)
    assert wide.tolist() == [4, -4]
    ends = np.array([2**31 - 1, -(2**31 - 1)])
    assert requantise(ends, np.full(2, 65535, np.int32), np.full(2, 47, np.int32), 8).tolist() == [1, -1]
    # 65535 * 2^47 / 2^63 = 0.99998 -> 1, and half of a step more than 32766 of them
    ends = np.array([2**47 - 1, 1 - 2**47])
    assert requantise(ends, np.full(2, 65535, np.int32), np.full(2, 63, np.int32), 16).tolist() == [1, -1]
    assert requantise(ends, np.full(2, 65535, np.int32), np.full(2, 48, np.int32), 16).tolist() == [32767, -32767]
    assert requantise(ends - 2**33, np.full(2, 32768, np.int32), np.full(2, 47, np.int32), 16).tolist() == [
        32766,
        -32768,
    ]


def test_per_channel_layer_by_hand():
    layer = IntegerLayer(
        "c",
        "conv2d",
        np.array([[[[1, 2], [3, 4]]], [[[-1, 0], [0, -1]]]], np.int8),
        np.array([10, -3], np.int32),
        np.array([1, 3], np.int32),
        np.array([2, 1], np.int32),
        scale=0.25,
    )
    network = IntegerNetwork("hand", (1, 2, 3), 1.0, 8, (layer,))
    # channel 0: 1+4+9+16 = 30, + 10 = 40, / 4 = 10; and 2-2+12+0 = 12, + 10 = 22, 5.5 -> 6
    # channel 1: -1-4 = -5, - 3 = -8, * 3/2 = -12; and -2-0 = -2, - 3 = -5, * 3/2 = -7.5 -> -7
    x = np.array([[[[1, 2, -1], [3, 4, 0]]]])
    assert network.predict(x).tolist() == [[[[10, 6]], [[-12, -7]]]]
    assert network.output_scale == 0.25


def small(seed=0, **changes):
    conv = conv_layer(np.random.default_rng(seed), relu=True, pool=2, padding=(1, 1), scale=0.1)
    linear = conv_layer(np.random.default_rng(seed + 1), 8, "fc", 16, 3, (1, 1), op="linear", flatten=True)
    return IntegerNetwork(**{"name": "small", "input_shape": (2, 4, 5), "input_scale": 0.5, "bits": 8,
                             "layers": (conv, linear)} | changes)  # fmt: skip


def test_quantised_input_rounds_halves_to_even_and_clamps():
    network = small(input_shape=(2, 4, 5))
    x = np.zeros((1, 2, 4, 5), np.float32)
    x[0, 0, 0] = [0.25, 0.75, -0.25, 1000, -1000]
    xq = network.quantize_input(x)
    assert xq.dtype == np.int8
    assert xq[0, 0, 0].tolist() == [0, 2, 0, 127, -128]
    assert np.array_equal(network.predict(x), network.predict(xq))
    assert np.array_equal(network.predict(torch.from_numpy(x)), network.predict(xq))


def test_a_large_batch_runs_in_chunks_with_the_same_result(monkeypatch):
    network = small()
    x = np.random.default_rng(3).integers(-128, 128, (7, 2, 4, 5))
    whole = network.layer_outputs(x)
    monkeypatch.setattr("codesign_kernel.optimize.integer.CHUNK_ELEMENTS", 200)  # 80 to a map: 2 images at a time
    for a, b in zip(whole, network.layer_outputs(x), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4, 5)), r"expected \(N, C, H, W\) = \(N >= 1, 2, 4, 5\), but got \(2, 4, 5\)"),
        (np.zeros((1, 2, 5, 4)), r"but got \(1, 2, 5, 4\)"),
        (np.zeros((0, 2, 4, 5)), r"but got \(0, 2, 4, 5\)"),
        (np.full((1, 2, 4, 5), np.nan), "40 of 40 are NaN or infinite"),
        (np.full((1, 2, 4, 5), np.inf), "NaN or infinite"),
        (np.full((1, 2, 4, 5), 128), "between -128 and 127, but got 128 to 128"),
        (np.full((1, 2, 4, 5), 200, np.uint8), "but got 200 to 200"),
        (np.zeros((1, 2, 4, 5), bool), "but got bool"),
        (torch.zeros(1, 2, 4, 5, requires_grad=True), "array of numbers"),
    ],
)
def test_predict_refuses_wrong_inputs(x, message):
    with pytest.raises(InvalidInputError, match=message):
        small().predict(x)


def test_layer_outputs_refuses_real_numbers():
    with pytest.raises(InvalidInputError, match="quantised inputs are integers, but got float64"):
        small().layer_outputs(np.zeros((1, 2, 4, 5)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name is a text"),
        ({"op": "matmul"}, "op is one of 'conv2d', 'linear'"),
        ({"weight": np.zeros((4, 2, 3, 3))}, r"weight is an array of int8 .* has float64 \[4, 2, 3, 3\]"),
        ({"weight": np.zeros((4, 0, 3, 3), np.int8)}, "at least one element"),
        ({"bias": np.zeros(3, np.int32)}, "bias has one value for each of the 4 output channels"),
        ({"multiplier": np.zeros(4, np.int32)}, "multiplier lies between 1 and 65535, but layer 'conv' has 0 to 0"),
        ({"multiplier": np.full(4, 65536, np.int32)}, "65536"),
        ({"shift": np.full(4, 48, np.int32)}, "shift lies between 1 and 47"),
        ({"shift": np.zeros(4, np.int32)}, "shift lies between 1 and 47"),
        ({"stride": (0, 1)}, "stride is an integer >= 1"),
        ({"padding": 1}, r"padding is a pair \(y, x\)"),
        ({"groups": 3}, "groups divides the 4 output channels"),
        ({"pool": 0}, "pool is an integer >= 1"),
        ({"relu": 1}, "relu is True or False"),
        ({"flatten": True}, "flatten is for linear layers"),
        ({"scale": 0.0}, "scale is a finite number above 0"),
        ({"scale": float("nan")}, "scale is a finite number above 0"),
        ({"op": "linear"}, "'linear' has a 1x1 filter"),
    ],
)  # fmt: skip
def test_layers_refuse_what_breaks_a_law(changes, message):
    layer = conv_layer(np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(layer, **changes)


def wide(k, bias=0, bits=8):
    narrow, long = (np.int16, np.int64) if bits == 16 else (np.int8, np.int32)
    full = np.full((1, k, 1, 1), -(1 << (bits - 1)), narrow)
    one = np.ones(1, np.int32)
    return IntegerLayer("fc", "linear", full, np.full(1, bias, long), one, one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 6}, r"bits is one of \(4, 8, 16\)"),
        ({"bits": 16}, "weights of 16 bits are an array of int16, but those of layer 'conv' are int8"),
        (
            {"layers": (wide(131072, bits=16),), "input_shape": (131072, 1, 1), "bits": 16},
            "of 48 bits holds sums below 140737488355328, but channel 0 .* 140737488355328",
        ),
        ({"bits": 4}, "weights of 4 bits lie between -8 and 7, but those of layer 'conv'"),
        ({"input_shape": (2, 4)}, r"input_shape is \(C, H, W\)"),
        ({"input_scale": -1.0}, "input_scale is a finite number above 0"),
        ({"input_shape": (3, 4, 5)}, "layer 'conv' reads 2 channels"),
        ({"input_shape": (2, 1, 5)}, "too small for a pool of 2"),
        ({"input_shape": (2, 6, 5)}, "layer 'fc' reads 16 channels"),
        ({"layers": ()}, "at least one layer"),
        (
            {"layers": (wide(131072),), "input_shape": (131072, 1, 1)},
            "sums below 2147483648, but channel 0 .* 2147483648",
        ),
    ],
)
def test_networks_refuse_what_breaks_a_law(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        small(**changes)


def test_the_widest_accumulator_is_allowed_and_exact():
    # 131071 * 128 * 128 = 2^31 - 16384; with the bias 2^31 - 1
    network = IntegerNetwork("wide", (131071, 1, 1), 1.0, 8, (wide(131071, 16383),))
    assert network.predict(np.full((1, 131071, 1, 1), -128)).tolist() == [[127]]


def test_workload_has_a_loop_nest_for_each_operator():
    rng = np.random.default_rng(0)
    depthwise = conv_layer(
        rng, name="dw", channels=4, k=4, f=(3, 3), groups=4, stride=(2, 1), padding=(1, 1), relu=True
    )
    conv = conv_layer(rng, name="pw", channels=4, k=6, f=(1, 1), pool=2)
    linear = conv_layer(rng, 8, "fc", 6 * 2 * 3, 5, (1, 1), op="linear", flatten=True, relu=True)
    load = IntegerNetwork("net", (4, 8, 7), 1.0, 8, (depthwise, conv, linear)).workload
    assert [(layer.name, layer.op) for layer in load.layers] == [
        ("dw", "conv2d"), ("dw.relu", "relu"), ("pw", "conv2d"), ("pw.max_pool2d", "max_pool2d"), ("fc", "linear"),
        ("fc.relu", "relu"),
    ]  # fmt: skip
    dw, _, pw, pool, fc, _ = load.layers
    assert (dw.G, dw.K, dw.C, dw.OY, dw.OX, dw.IY, dw.IX) == (4, 1, 1, 4, 7, 8, 7)
    assert (pw.G, pw.K, pw.C, pw.OY, pw.OX) == (1, 6, 4, 4, 7)
    assert (pool.FY, pool.FX, pool.stride, pool.OY, pool.OX, pool.IY, pool.IX) == (2, 2, (2, 2), 2, 3, 4, 7)
    assert (fc.K, fc.C, fc.OY, fc.OX, fc.IY, fc.IX) == (5, 36, 1, 1, 1, 1)
    assert load.macs == 4 * 4 * 7 * 9 + 6 * 4 * 4 * 7 + 36 * 5
    assert load.edges[0] == ("dw", "dw.relu")
    assert load.edges[-1] == ("fc", "fc.relu")
    assert len(load.edges) == 5
    assert {(layer.B, layer.weight_bits, layer.input_bits) for layer in load.layers} == {(1, 8, 8)}
    assert pool.inputs == 6 * 4 * 7
    assert pool.outputs == 6 * 2 * 3


def test_digest_is_stable_and_sensitive():
    base = small()
    assert base.digest == small().digest
    assert len(base.digest) == 64
    conv, linear = base.layers
    others = [
        small(name="other"),
        small(input_scale=0.25),
        *(small(layers=(dataclasses.replace(conv, **change), linear)) for change in (
            {"relu": False}, {"scale": 0.2}, {"bias": conv.bias + np.int32(1)}, {"shift": conv.shift + np.int32(1)},
            {"multiplier": conv.multiplier - np.int32(1)}, {"weight": conv.weight // np.int8(2)}, {"name": "conv1"},
        )),
    ]  # fmt: skip
    assert len({base.digest, *(network.digest for network in others)}) == 10


def test_arrays_cannot_be_changed_behind_the_digest():
    weight = np.ones((1, 1, 1, 1), np.int8)
    one = np.ones(1, np.int32)
    layer = IntegerLayer("c", "conv2d", weight, one, one, one)
    weight[:] = 5
    assert layer.weight.item() == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[:] = 5


def test_save_and_load_give_the_same_network(tmp_path):
    network = small()
    path = network.save(tmp_path / "net.npz")
    loaded = IntegerNetwork.load(path)
    assert loaded.digest == network.digest == pickle.loads(pickle.dumps(network)).digest
    assert loaded.layers[0].padding == (1, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]
    small(7).save(path)  # replaces
    assert IntegerNetwork.load(path).digest == small(7).digest


def test_load_refuses_files_that_are_not_networks(tmp_path):
    path = tmp_path / "net.npz"
    with pytest.raises(InvalidInputError, match="there is no file"):
        IntegerNetwork.load(path)
    good = small().save(tmp_path / "good.npz").read_bytes()
    half = bytearray(good)
    half[len(good) // 2] ^= 255
    for content in (b"", b"hello", good[: len(good) // 2], bytes(half)):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="is not a saved IntegerNetwork"):
            IntegerNetwork.load(path)
    with np.load(tmp_path / "good.npz") as file:
        entries = dict(file)
    for change in ({"header": "[]"}, {"format": "2"}, {"0.bias": entries["0.bias"] + np.int32(1)}, {"header": "{"}):
        np.savez(path, **(entries | change))
        with pytest.raises(InvalidInputError, match="is not a saved IntegerNetwork"):
            IntegerNetwork.load(path)
    np.savez(path, **(entries | {"0.weight": np.array([{}], object)}))  # a pickle inside is not opened
    with pytest.raises(InvalidInputError, match="allow_pickle"):
        IntegerNetwork.load(path)


def test_a_network_of_16_bits_is_kept(tmp_path):
    conv = conv_layer(np.random.default_rng(1), 16, padding=(1, 1), pool=2)
    network = IntegerNetwork("wide", (2, 4, 5), 0.5, 16, (conv,))
    loaded = IntegerNetwork.load(network.save(tmp_path / "wide.npz"))
    assert loaded.digest == network.digest
    assert loaded.layers[0].weight.dtype == np.int16
    assert loaded.quantize_input(np.full((1, 2, 4, 5), 1e9)).dtype == np.int16
    assert loaded.quantize_input(np.full((1, 2, 4, 5), 1e9)).max() == 32767
    assert "int16[4, 2, 3, 3]" in repr(conv)
    for name, value in (("bias", conv.bias.astype(np.int32)), ("weight", conv.weight.astype(np.int32))):
        with pytest.raises(InvalidInputError, match=f"{name} is an array of int"):
            dataclasses.replace(conv, **{name: value})
    with pytest.raises(InvalidInputError, match="bias lies between -140737488355328 and 140737488355327"):
        dataclasses.replace(conv, bias=np.full(4, -(2**63), np.int64))
    with pytest.raises(InvalidInputError, match="shift lies between 1 and 63"):
        dataclasses.replace(conv, shift=np.full(4, 64, np.int32))


def test_save_says_where_it_cannot_write(tmp_path):
    with pytest.raises(OutputError, match="choose a folder"):
        small().save(tmp_path / "missing" / "net.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        small().save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_layer_may_have_narrower_weights_of_its_own():
    layer = conv_layer(np.random.default_rng(3))
    narrow = dataclasses.replace(layer, weight=np.clip(layer.weight, -8, 7).astype(np.int8), weight_bits=4)
    network = IntegerNetwork("n", (2, 6, 6), 1.0, 8, (narrow,))
    assert [nest.weight_bits for nest in network.workload.layers] == [4] + [8] * (len(network.workload.layers) - 1)
    assert (
        network.digest != IntegerNetwork("n", (2, 6, 6), 1.0, 8, (dataclasses.replace(narrow, weight_bits=0),)).digest
    )
    with pytest.raises(InvalidInputError, match="of 4 bits lies between -8 and 7"):
        dataclasses.replace(layer, weight_bits=4)
    with pytest.raises(InvalidInputError, match="weight_bits is one of"):
        dataclasses.replace(layer, weight_bits=5)
    with pytest.raises(InvalidInputError, match="at most as wide as the network's 8 bits"):
        IntegerNetwork("n", (2, 6, 6), 1.0, 8, (dataclasses.replace(layer, weight_bits=16),))
