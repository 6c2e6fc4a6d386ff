"""Wrong answers to lab 1, counting work."""

from labs_harness import Wrong

WRONG = (
    Wrong(
        "flop_for_mac",
        {
            "conv_macs": "def conv_macs(K, C, OY, OX, FY, FX, B=1, G=1):\n"
            "    return 2 * B * K * (C // G) * OY * OX * FY * FX\n",
            "conv_parameters": "def conv_parameters(K, C, FY, FX, G=1, bias=True):\n    return K * C // G * FY * FX\n",
        },
        ("test_conv_macs", "test_conv_parameters"),
        {"test_conv_macs": "you counted FLOP", "test_conv_parameters": "has a bias for each of its 16 output channels"},
    ),
    Wrong(
        "padding_on_one_side_and_groups_ignored",
        {
            "output_size": "def output_size(size, kernel, stride=1, padding=0):\n"
            "    return (size + padding - kernel) // stride + 1\n",
            "conv_macs": "def conv_macs(K, C, OY, OX, FY, FX, B=1, G=1):\n    return B * K * C * OY * OX * FY * FX\n",
        },
        ("test_output_size", "test_conv_macs"),
        {"test_output_size": "on both sides", "test_conv_macs": "as if each filter read all 32 channels"},
    ),
    Wrong(
        "weights_read_for_every_image",
        {
            "bytes_moved": "def bytes_moved(layer, bits=8):\n"
            "    return layer.B * (layer.inputs // layer.B + layer.weights + layer.outputs // layer.B) * bits / 8\n",
            "intensity": "def intensity(layer, bits=8):\n    return bytes_moved(layer, bits) / layer.macs\n",
            "extremes": "def extremes(layers):\n"
            "    return max(layers, key=lambda one: one.K * one.C * one.OY * one.OX * one.FY * one.FX).name, ''\n",
        },
        ("test_bytes_moved", "test_intensity", "test_extremes"),
        {
            "test_bytes_moved": "Both images use the same weights",
            "test_intensity": "the wrong way up",
            "test_extremes": "A relu multiplies nothing",
        },
    ),
    Wrong(
        "weights_used_early",
        {"challenge": "network = [(32, 3, 1, 1), (32, 3, 2, 1), (64, 3, 2, 1), (64, 3, 2, 1), (64, 3, 1, 1)]\n"},
        ("test_challenge",),
        {"test_challenge": "Make the map small early"},
    ),
    Wrong(
        "intensity_calls_wrong_bytes",
        {
            "conv_parameters": "def conv_parameters(K, C, FY, FX, G=1, bias=True):\n"
            "    return K * (C // G) * FY * FX + (G * K if bias else 0)\n",
            "bytes_moved": "def bytes_moved(layer, bits=8):\n"
            "    inputs, outputs = layer.B * layer.C * layer.IY * layer.IX, layer.B * layer.K * layer.OY * layer.OX\n"
            "    return (inputs + layer.K * layer.C * layer.FY * layer.FX + outputs) * bits / 8\n",
            "intensity": "def intensity(layer, bits=8):\n    return layer.macs / bytes_moved(layer, bits)\n",
            "extremes": "def extremes(layers):\n"
            "    return max(layers, key=lambda one: one.macs), max(layers, key=lambda one: one.weights)\n",
            "challenge": "network = [(9, 1, 2, 3), (9, 1, 2, 9), (18, 5, 2, 9), (38, 5, 1, 1), (64, 1, 1, 1)]\n",
        },
        ("test_conv_parameters", "test_bytes_moved", "test_extremes", "test_challenge"),
        {
            "test_conv_parameters": "K biases, not G * K",
            "test_bytes_moved": "This layer has 32 groups",
            "test_extremes": "Return the layers' names",
            "test_challenge": "skips pixels",
        },
    ),
    Wrong(
        "printed_and_bits_forgotten",
        {
            "output_size": "def output_size(size, kernel, stride=1, padding=0):\n"
            "    print((size + 2 * padding - kernel) // stride + 1)\n",
            "conv_macs": "def conv_macs(K, C, OY, OX, FY, FX, B=1, G=1):\n"
            "    return B * K * (C // G) * OY * OX * FY * FY\n",
            "intensity": "def intensity(layer, bits=8):\n    return layer.macs / bytes_moved(layer)\n",
        },
        ("test_output_size", "test_conv_macs", "test_intensity"),
        {
            "test_output_size": "returns nothing",
            "test_conv_macs": "The filter is FY x FX",
            "test_intensity": "do you pass `bits` on",
        },
    ),
)
