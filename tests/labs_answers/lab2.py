"""Wrong answers to lab 2, the roofline."""

from labs_harness import Wrong

WRONG = (
    Wrong(
        "flop_and_sums",
        {
            "peak_rate": "def peak_rate(rows, cols, frequency_mhz):\n    return 2e6 * rows * cols * frequency_mhz\n",
            "least_time": "def least_time(macs, moved, peak, bandwidth):\n    return macs / peak + moved / bandwidth\n",
            "least_network_time": "def least_network_time(layers, peak, bandwidth):\n"
            "    return sum(least_time(macs, moved, peak, bandwidth) for macs, moved in layers)\n",
        },
        ("test_peak_rate", "test_least_time"),
        {"test_peak_rate": "That is FLOP/s", "test_least_time": "the sum. A machine that fetches while it computes"},
    ),
    Wrong(
        "one_roofline_for_all_layers",
        {
            "least_network_time": "def least_network_time(layers, peak, bandwidth):\n"
            "    macs, moved = sum(one for one, _ in layers), sum(other for _, other in layers)\n"
            "    return max(macs / peak, moved / bandwidth)\n",
            "attainable": "def attainable(intensity, peak, bandwidth):\n    return intensity * bandwidth\n",
        },
        ("test_least_network_time", "test_attainable"),
        {"test_least_network_time": "one roofline for the sums", "test_attainable": "The arithmetic is a limit, too"},
    ),
    Wrong(
        "ridge_upside_down_and_batch_as_large_as_the_ridge",
        {
            "bound_by": "def bound_by(intensity, peak, bandwidth):\n"
            "    return 'compute' if intensity >= bandwidth / peak else 'memory'\n",
            "least_batch": "def least_batch(K, C, ridge):\n    return ridge\n",
            "peak_rate": "def peak_rate(rows, cols, frequency_mhz):\n    print(rows * cols * frequency_mhz * 1e6)\n",
            "challenge": "pes, buffer_kib, kept = 256, 2, set()\n",
        },
        ("test_bound_by", "test_least_batch", "test_peak_rate", "test_challenge"),
        {
            "test_peak_rate": "end it with `return`, not `print`",
            "test_bound_by": "Is your ridge peak / bandwidth?",
            "test_least_batch": "inputs and outputs have to be moved, too",
            "test_challenge": "which layers are memory bound",
        },
    ),
)
