"""The start-pose benchmark's arithmetic: turning a query, errors, shares, groups."""

import math

import pytest
import torch

from benchmarks.start_pose import error, grouped, nearest, spread, summary
from benchmarks.start_pose_queries import from_distance, resampled, turned
from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.se3 import se3_exp


def camera_at(position, degrees=0.0):
    """A camera that looks along z, turned by `degrees` about y."""
    turn = se3_exp(torch.tensor([0, 0, 0, 0, math.radians(degrees), 0]).double())
    place = torch.eye(4, dtype=torch.float64)
    place[:3, 3] = -torch.tensor(position, dtype=torch.float64)
    return Camera(Intrinsics(10, 10, 2.5, 2.5, 5, 5), turn @ place)


def pixel_of(point, camera):
    """(column, row) in which a world point is seen."""
    x, y, z = (camera.world_to_camera @ torch.tensor([*point, 1.0]).double())[:3].tolist()
    k = camera.intrinsics
    return math.floor(k.fx * x / z + k.cx), math.floor(k.fy * y / z + k.cy)


def test_a_quarter_turn_moves_image_and_camera_from_right_to_down():
    camera = camera_at((0, 0, -2))
    point = (0.4, 0.0, 0.0)  # 10 * 0.4 / 2 = 2 px right of the middle
    assert pixel_of(point, camera) == (4, 2)
    image = torch.zeros(1, 5, 5)
    image[0, 2, 4] = 1
    seen, moved = turned(image, camera, 90)
    expected = torch.zeros(1, 5, 5)
    expected[0, 4, 2] = 1
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)
    assert pixel_of(point, moved) == (2, 4)
    torch.testing.assert_close(moved.position, camera.position)
    assert error(camera.world_to_camera, moved, torch.zeros(3))[0] == pytest.approx(90)


def test_turning_is_about_the_principal_point():
    camera = Camera(Intrinsics(10, 10, 1.5, 1.5, 5, 5), torch.eye(4))
    image = torch.zeros(1, 5, 5)
    image[0, 1, 3] = 1  # 2 px right of (1, 1)
    seen, _ = turned(image, camera, 90)
    assert seen[0, 3, 1] == pytest.approx(1, abs=1e-5)


def test_no_turn_leaves_a_query_as_it_is():
    image, camera = torch.rand(3, 5, 5), camera_at((0, 0, -2))
    assert turned(image, camera, 0) == (image, camera)


def test_a_camera_at_another_distance_sees_the_centre_at_the_same_place():
    camera, centre = camera_at((0.2, 0.1, -2), degrees=5), torch.tensor([0.1, -0.2, 0.3]).double()
    moved = from_distance(camera, centre, 1.5)
    assert pixel_of(centre.tolist(), moved) == pixel_of(centre.tolist(), camera)
    far, near = ((c.position - centre).norm() for c in (moved, camera))
    assert far == pytest.approx(1.5 * near)
    torch.testing.assert_close(moved.world_to_camera[:3, :3], camera.world_to_camera[:3, :3])


def test_a_resampled_photograph_is_larger_about_the_object():
    camera, centre = camera_at((0, 0, -2)), torch.tensor([-0.2, 0.2, 0.0]).double()  # at (1.5, 3.5)
    image = torch.zeros(1, 5, 5)
    image[0, 3, 1] = 1
    image[0, 3, 2] = 0.5  # 1 px right of it
    seen = resampled(image, camera, centre, 2.0)
    assert seen[0, 3, 1] == pytest.approx(1, abs=1e-5)
    assert seen[0, 3, 3] == pytest.approx(0.5, abs=1e-5)
    torch.testing.assert_close(resampled(image, camera, centre, 1.0), image)


def test_errors_are_degrees_and_percent_of_the_distance():
    truth, centre = camera_at((0, 0, -2)), torch.zeros(3).double()
    shifted = camera_at((0.1, 0, -2)).world_to_camera  # 0.1 of 2
    assert error(shifted, truth, centre) == pytest.approx((0, 5), abs=1e-6)
    looked_aside = camera_at((0, 0, -2), degrees=10).world_to_camera
    assert error(looked_aside, truth, centre) == pytest.approx((10, 0), abs=1e-6)
    assert error(shifted, truth, torch.tensor([0, 0, 8.0]))[1] == pytest.approx(1)  # 0.1 of 10


def test_the_nearest_hypothesis_is_near_in_both():
    assert nearest([(1.0, 30.0), (6.0, 2.0), (7.0, 7.5)]) == (6.0, 2.0)


def row(angle, percent, status="ok", best=None, **more):
    best = best or (angle, percent)
    return {
        "status": status,
        "angle_deg": angle,
        "percent": percent,
        "best_angle_deg": best[0],
        "best_percent": best[1],
        "num_kept": 2,
        "seconds": 1.0,
    } | more


def test_shares_need_both_bounds_and_count_not_found_as_missed():
    rows = [
        row(1, 2),
        row(4, 6, seconds=3.0),
        row(16, 1, best=(2, 1)),
        row(0.5, 0.5, "not_found", num_kept=6),
    ]
    values = summary(rows)
    assert (values["within_15"], values["within_5"], values["not_found"]) == (50, 25, 25)
    assert values["median_deg"] == 10  # of 1, 4, 16 and a miss
    assert values["median_percent"] == 4  # of 1, 2, 6 and a miss
    assert (values["best_within_15"], values["best_within_5"]) == (75, 50)
    assert values["best_median_deg"] == 3  # of 1, 2, 4 and a miss
    assert (values["num_kept"], values["seconds"]) == (3, 1)


def test_a_median_among_the_missed_is_none():
    assert summary([row(1, 1), row(1, 1, "not_found")])["median_deg"] is None


def test_turned_queries_stand_beside_the_same_ones_upright():
    def seen(query, degrees, angle, light, distance=1.0):
        own = {"turned_deg": degrees, "distance": distance}
        return row(angle, 0, way="ours", query=query, light=light, **own)

    rows = [seen("a", 0, 1, "A"), seen("b", 0, 3, "B"), seen("b", 90, 20, "B")]
    groups = grouped([*rows, seen("a", 0, 2, "A", 0.65)])
    assert {name: (v["num"], v["within_15"]) for name, v in groups.items()} == {
        "ours: all": (2, 100),
        "ours: light A": (1, 100),
        "ours: light B": (1, 100),
        "ours: the turned ones, upright": (1, 100),
        "ours: turned by 90": (1, 0),
        "ours: from 0.65 of the distance": (1, 100),
    }


def test_items_are_spread_evenly_and_zero_takes_all():
    assert spread(list(range(10)), 3) == [0, 3, 6]
    assert spread([1, 2], 0) == spread([1, 2], 9) == [1, 2]
