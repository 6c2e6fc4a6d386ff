"""Wrong answers to lab 4, dataflows and reuse."""

from labs_harness import Wrong

#: Whatever was fetched once is kept for ever.
EVERYTHING_KEPT = """
def fetches(order, M, K, N):
    return {"W": K * N, "I": M * K, "O": M * N}
"""

#: Averages, rounded down.
WHOLE = """
def reuse(layer):
    return {name: layer.macs // size for name, size in zip("WIO", (layer.weights, layer.inputs, layer.outputs))}
"""

#: As if the array were always as large as the matrices.
ONE_TILE = """
def edge_words(M, K, N, R, C, dataflow):
    return {"W": K * N, "I": M * K, "O": M * N}
"""

WRONG = (
    Wrong(
        "everything_kept",
        {"fetches": EVERYTHING_KEPT, "edge_words": ONE_TILE, "reuse": WHOLE},
        ("test_fetches", "test_edge_words", "test_reuse"),
        {
            "test_fetches": "There is one register for each operand",
            "test_edge_words": "not just once",
            "test_reuse": "divide with /",
        },
    ),
    Wrong(
        "outermost_loop_and_words",
        {
            "stationary": "def stationary(order):\n    return {'m': 'W', 'n': 'I', 'k': 'O'}[order[0]]\n",
            "cheapest": "def cheapest(words):\n    return min(words, key=lambda name: sum(words[name].values()))\n",
            "reuse": "def reuse(layer):\n"
            "    return {'W': layer.C * layer.FY * layer.FX, 'I': 1, 'O': layer.C * layer.FY * layer.FX}\n",
        },
        ("test_stationary", "test_cheapest", "test_reuse"),
        {
            "test_stationary": "You go by the outermost loop",
            "test_cheapest": "Count bytes",
            "test_reuse": "A weight is used at every position",
        },
    ),
    Wrong(
        "sums_loaded_first_and_one_array",
        {
            "dataflow_cycles": "def dataflow_cycles(M, K, N, R, C, dataflow):\n"
            "    down, across, time = {'ws': (K, N, M), 'os': (M, N, K), 'is': (K, M, N)}[dataflow]\n"
            "    return -(-down // R) * -(-across // C) * (time + 2 * R + C - 2)\n",
            "challenge": "arrays, plan = [(16, 16)], lone\n",
        },
        ("test_dataflow_cycles", "test_challenge"),
        {"test_dataflow_cycles": "The sums start as zeros", "test_challenge": "let a second array"},
    ),
)
