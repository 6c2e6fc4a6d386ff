"""What students of lab 8 get wrong."""

from __future__ import annotations

from labs_harness import Wrong

WRONG = (
    Wrong(
        "cutting_bits_off",
        {
            "saturate": """
@block
def saturate(x, y):
    n = len(y)

    @always_comb
    def limit():
        y.next = x[n:].signed()

    return limit
""",
        },
        ("test_saturate",),
        {"test_saturate": "is not saturation"},
    ),
    Wrong(
        "a_sum_without_room",
        {
            "satmac": """
@block
def satmac(clk, first, a, w, acc):
    highest = int(acc.max) - 1
    lowest = int(acc.min)
    total = Signal(intbv(0, min=int(acc.min), max=int(acc.max)))

    @always_comb
    def add():
        if first:
            total.next = a * w
        else:
            total.next = acc + a * w

    @always(clk.posedge)
    def keep():
        if total > highest:
            acc.next = highest
        elif total < lowest:
            acc.next = lowest
        else:
            acc.next = total

    return add, keep
""",
        },
        ("test_satmac",),
        {"test_satmac": "needs a wider signal before it is limited"},
    ),
    Wrong(
        "no_rounding_and_a_lost_carry",
        {
            "requantise": """
@block
def requantise(acc, q, multiplier, shift):
    n = len(acc) + 17
    product = Signal(intbv(0, min=-(1 << n), max=1 << n))
    scaled = Signal(intbv(0, min=-(1 << n), max=1 << n))
    highest = int(q.max) - 1

    @always_comb
    def multiply():
        product.next = acc * multiplier

    @always_comb
    def shift_down():
        scaled.next = product >> shift

    @always_comb
    def limit():
        if scaled > highest:
            q.next = highest
        elif scaled < 0:
            q.next = 0
        else:
            q.next = scaled

    return multiply, shift_down, limit
""",
            "average": """
@block
def average(a, b, y):
    @always_comb
    def mean():
        y.next = (a + b + 1) >> 1

    return mean
""",
        },
        ("test_requantise", "test_average"),
        {"test_requantise": "cuts off instead of rounding", "test_average": "it simulates well and converts wrongly"},
    ),
    Wrong(
        "only_small_positive_numbers_are_tried",
        {
            "verify": """
def verify(make):
    inputs = [{"first": n % 10 == 0, "a": n % 11, "w": n % 7} for n in range(100)]
    total, wanted = 0, []
    for one in inputs:
        total = (0 if one["first"] else total) + one["a"] * one["w"]
        wanted.append(total)
    return drive(make, mac_ports(), inputs, "acc") == wanted
""",
        },
        ("test_verify",),
        {"test_verify": "mutants pass your test"},
    ),
)
