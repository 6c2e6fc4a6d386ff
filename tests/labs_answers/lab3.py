"""Wrong answers to lab 3, the systolic array cycle by cycle."""

from labs_harness import Wrong

#: Every element sees what its neighbours work out in the same cycle, as if there were no registers.
NO_REGISTERS = """
def simulate(schedule, w):
    K, N = w.shape
    sums = np.zeros((len(schedule), K, N), dtype=int)
    a = np.zeros((K, N), dtype=int)
    for t in range(len(schedule)):
        a = np.column_stack([schedule[t], a[:, :-1]])
        for r in range(K):
            for c in range(N):
                sums[t, r, c] = (sums[t, r - 1, c] if r else 0) + a[r, c] * w[r, c]
    return sums
"""

WRONG = (
    Wrong(
        "sums_forgotten_and_no_skew",
        {
            "element": "def element(w, a_in, p_in):\n    return a_in, a_in * w\n",
            "skewed": "def skewed(x, cycles):\n"
            "    return np.vstack([x, np.zeros((cycles - len(x), x.shape[1]), dtype=int)])\n",
        },
        ("test_element", "test_skewed"),
        {"test_element": "the product only", "test_skewed": "All rows start in cycle 0"},
    ),
    Wrong(
        "no_registers_between_elements",
        {
            "simulate": NO_REGISTERS,
            "read_out": "def read_out(leaves, M, K):\n    return leaves[K - 1 : K - 1 + M]\n",
        },
        ("test_simulate", "test_read_out"),
        {"test_simulate": "There is a register between them", "test_read_out": "all columns in the same cycle"},
    ),
    Wrong(
        "tiles_without_rounding_and_one_large_array",
        {
            "gemm_cycles": "def gemm_cycles(M, K, N, R, C):\n    return (K // R) * (N // C) * (M + 2 * R + C - 2)\n",
            "utilisation": "def utilisation(M, K, N, R, C, cycles):\n    return M * K * N / cycles\n",
            "challenge": "n, R, C = 1, 16, 16\n\n\ndef share(M, K, N):\n    return 'rows'\n",
        },
        ("test_gemm_cycles", "test_utilisation", "test_challenge"),
        {
            "test_gemm_cycles": "Round up",
            "test_utilisation": "Divide by the number of elements, too",
            "test_challenge": "Print those of the depthwise",
        },
    ),
)
