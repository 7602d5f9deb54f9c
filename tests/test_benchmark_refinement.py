"""The refiners' benchmark: what is compared with what."""

import pytest

from benchmarks.refinement import speed_up


def test_speed_up_compares_medians_on_the_queries_that_both_refined():
    ours = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 100.0}
    times = {"second_order": ours, "adam": {"a": 30.0, "c": 90.0}}
    rows = [
        {"refiner": refiner, "query": query, "start_deg": 5.0, "seconds": seconds}
        for refiner, own in times.items()
        for query, seconds in own.items()
    ]
    alone = {"refiner": "second_order", "query": "a", "start_deg": 2.0, "seconds": 1.0}
    assert speed_up([*rows, alone]) == {"5": pytest.approx(60.0 / 2.5)}
