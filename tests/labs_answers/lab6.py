"""What students of lab 6 get wrong."""

from __future__ import annotations

from labs_harness import Wrong

WRONG = (
    Wrong(
        "the_range_leaves_zero_out",
        {
            "quantise": """
def quantise(x, low, high, bits):
    scale = (high - low) / (2**bits - 1)
    bottom = -(2 ** (bits - 1))
    zero = int(np.rint(bottom - low / scale))
    q = np.clip(np.rint(np.asarray(x) / scale) + zero, bottom, -bottom - 1).astype(np.int64)
    return q, scale, zero
""",
        },
        ("test_quantise",),
        {"test_quantise": "Is 0 within the range?"},
    ),
    Wrong(
        "eight_bits_wrap_around",
        {
            "accumulate": """
def accumulate(weight, q, zero, bias):
    return q @ weight.T + (bias - zero * weight.astype(np.int64).sum(axis=1))
""",
        },
        ("test_accumulate",),
        {"test_accumulate": "wraps around"},
    ),
    Wrong(
        "cut_off_towards_zero",
        {
            "requantise": """
import math


def requantise(acc, ratio, bits):
    fraction, exponent = math.frexp(ratio)
    m, n = round(fraction * 65536), 16 - exponent
    if m == 65536:
        m, n = m // 2, n - 1
    scaled = np.trunc((np.asarray(acc) * m + (1 << (n - 1))) / (1 << n)).astype(np.int64)
    return np.clip(scaled, -(1 << (bits - 1)), (1 << (bits - 1)) - 1), m, n
""",
        },
        ("test_requantise",),
        {"test_requantise": "A shift floors"},
    ),
    Wrong(
        "one_scale_and_squares_everywhere",
        {
            "scales": """
CLIPS = np.linspace(1.0, 0.2, 41)


def scales(weight, values, bits):
    top = 2 ** (bits - 1) - 1
    return np.abs(weight).max() / top, float(np.abs(values).max())
""",
            "mac": """
def mac(bits, terms):
    acc_bits = (terms * 2 ** (2 * bits - 2)).bit_length() + 1
    return acc_bits, 0.2 * (bits / 8) ** 2 + 0.1 * (acc_bits / 32) ** 2
""",
        },
        ("test_scales", "test_mac"),
        {"test_scales": "a single one for the layer", "test_mac": "with the square"},
    ),
)
