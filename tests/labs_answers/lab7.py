"""What students of lab 7 get wrong."""

from __future__ import annotations

from labs_harness import Wrong

WRONG = (
    Wrong(
        "better_in_every_goal",
        {
            "dominates": """
def dominates(a, b):
    return all(x < y for x, y in zip(a, b, strict=True))
""",
        },
        ("test_dominates",),
        {"test_dominates": "'better in all' is too strict"},
    ),
    Wrong(
        "equal_points_leave_each_other_out",
        {
            "front": """
def front(points):
    points = np.asarray(points, dtype=float)
    stays = np.ones(len(points), dtype=bool)
    for i, p in enumerate(points):
        others = np.delete(points, i, axis=0)
        stays[i] = not (others <= p).all(axis=1).any()
    return stays
""",
            "volume": """
def volume(points, reference):
    inside = [p for p in np.asarray(points, dtype=float) if (p < reference).all()]
    return float(sum((reference[0] - x) * (reference[1] - y) for x, y in inside))
""",
        },
        ("test_front", "test_volume"),
        {"test_front": "equal points do not dominate each other", "test_volume": "where they overlap, count once"},
    ),
    Wrong(
        "the_limit_comes_last",
        {
            "front_within": """
def front_within(frame, goals, limits):
    best = ck.pareto_front(frame, goals)
    for column, most in limits.items():
        best = best[best[column] <= most]
    return sorted(best.index)
""",
        },
        ("test_front_within",),
        {"test_front_within": "the front first and the limit afterwards"},
    ),
    Wrong(
        "units_decide_and_averages_are_chances",
        {
            "knee": """
def knee(points):
    points = np.asarray(points, dtype=float)
    return int(np.argmin(((points - points.min(axis=0)) ** 2).sum(axis=1)))
""",
            "chance": """
def chance(N, G, n):
    return n * G / N
""",
        },
        ("test_knee", "test_chance"),
        {"test_knee": "units decided", "test_chance": "on average"},
    ),
)
