"""The model of benchmarks/tile_balance.py on cases that can be worked out by hand."""

import numpy as np
import pytest

from benchmarks import tile_balance
from benchmarks.tile_balance import START, makespan, reversed_rounds, tile_work


def test_a_lone_warp_runs_at_its_own_speed():
    assert makespan([[12.0]], [0], 4, lone=2.0, full=100.0) == pytest.approx((12 + START) / 2)


def test_warps_of_a_multiprocessor_share_its_speed(monkeypatch):
    monkeypatch.setattr(tile_balance, "MULTIPROCESSORS", 1)
    blocks = [[2.0, 2.0], [2.0, 2.0]]
    together = makespan(blocks, [0, 1], 2, lone=10.0, full=10.0)
    assert together == pytest.approx(4 * (2 + START) / 10)
    in_turn = makespan(blocks, [0, 1], 1, lone=2.0, full=10.0)  # room for one block at a time
    assert in_turn == pytest.approx(2 * (2 + START) / 2)


def test_every_other_round_is_reversed(monkeypatch):
    monkeypatch.setattr(tile_balance, "MULTIPROCESSORS", 2)
    assert reversed_rounds(np.array([1, 9, 5, 7, 3])).tolist() == [1, 3, 4, 2, 0]


def test_a_warp_stops_counting_when_its_pixels_are_dark():
    wide = {
        "mean": np.full((9, 2), 8.0),
        "conic": np.tile([1e-6, 0.0, 1e-6], (9, 1)),
        "opacity": np.full(9, 0.95),
        "half": np.full((9, 2), 1e4),
    }
    length, work = tile_work(wide, 0, 0)
    assert length == 9
    assert work.tolist() == [4.0] * 8  # 0.05^3 = 1.25e-4 is still light, 0.05^4 isn't
