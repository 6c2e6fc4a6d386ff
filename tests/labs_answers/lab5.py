"""What students of lab 5 get wrong."""

from __future__ import annotations

from labs_harness import Wrong

WRONG = (
    Wrong(
        "a_single_buffer",
        {
            "tile_kib": """
def tile_kib(layer, tile):
    return {o: prod(tile[loop] for loop in loops) * (32 if o == "O" else 8) / 8192 for o, loops in OPERANDS.items()}
""",
        },
        ("test_tile_kib",),
        {"test_tile_kib": "second copy of a double buffer"},
    ),
    Wrong(
        "sums_leave_only_when_finished",
        {
            "walk": """
def walk(layer, tile, order):
    traffic = {"W read": 0, "I read": 0, "O read": 0, "O write": 0}
    here = {}
    for begin in product(*[range(0, layer[loop], tile[loop]) for loop in order]):
        at = dict(zip(order, begin, strict=True))
        size = {loop: min(tile[loop], layer[loop] - at[loop]) for loop in order}
        for operand, loops in OPERANDS.items():
            name = tuple(at[loop] for loop in loops)
            if here.get(operand) != name:
                traffic[operand + (" write" if operand == "O" else " read")] += 8 * prod(size[loop] for loop in loops)
                here[operand] = name
    return traffic
""",
        },
        ("test_walk",),
        {"test_walk": "partial sums are read back"},
    ),
    Wrong(
        "a_loop_of_one_tile_is_a_loop",
        {
            "repeats": """
def repeats(counts, order):
    times = {}
    for operand, loops in OPERANDS.items():
        (free,) = set("ykc") - set(loops)
        times[operand] = 1 if order[-1] == free else counts[free]
    return times
""",
        },
        ("test_repeats",),
        {"test_repeats": "it is no loop"},
    ),
    Wrong(
        "inputs_once_a_tile_and_bytes_for_bits",
        {
            "buffer_traffic": """
def buffer_traffic(layer, tile, rows, cols):
    n = {loop: layer[loop] // tile[loop] for loop in "ykc"}
    elements = {operand: prod(layer[loop] for loop in loops) for operand, loops in OPERANDS.items()}
    updates = elements["O"] * ceil(tile["c"] / rows) * n["c"] * 32
    return {
        "W write": elements["W"] * n["y"] * 8,
        "W read": elements["W"] * n["y"] * 8,
        "I write": elements["I"] * n["k"] * 8,
        "I read": elements["I"] * n["k"] * 8,
        "O write": updates,
        "O read": updates,
    }
""",
            "memory_energy": """
def memory_energy_pj(bits, m):
    prices = {level.name: technology.sram(level.capacity_bit, level.word_bit, m.node_nm) for level in m.memories}
    total = 0.0
    for (level, direction), count in bits.items():
        if level == "dram":
            total += count / 8 * technology.dram_pj_per_bit(m.dram)
        else:
            total += count / 8 * getattr(prices[level], f"{direction}_pj_per_bit")
    return total
""",
        },
        ("test_buffer_traffic", "test_memory_energy"),
        {
            "test_buffer_traffic": "once for every fold along the output channels",
            "test_memory_energy": "bits and bytes",
        },
    ),
)
