"""Camera conventions and SE(3): answers by hand, by scipy-free series, and by symmetry."""

import math

import pytest
import torch

from gaussian_renderer.camera import (
    Camera,
    Intrinsics,
    opencv_to_opengl,
    opengl_to_opencv,
    unproject,
)
from gaussian_renderer.se3 import hat, pose_error, se3_exp, se3_log, so3_log


def project(camera, point):
    """Pixel of a world point by the textbook formula."""
    x, y, z = (camera.world_to_camera[:3, :3] @ point + camera.world_to_camera[:3, 3]).tolist()
    k = camera.intrinsics
    return k.fx * x / z + k.cx, k.fy * y / z + k.cy, z


def test_opengl_camera_at_the_origin_sees_minus_z_with_y_up():
    camera = Camera.from_opengl(Intrinsics.from_fov_x(math.pi / 2, 100, 80), torch.eye(4))
    u, v, z = project(camera, torch.tensor([0.5, 0.25, -1.0], dtype=torch.float64))
    assert (u, v, z) == pytest.approx((75.0, 27.5, 1.0))


def test_opengl_and_opencv_axes_are_each_others_inverse():
    matrix = se3_exp(torch.randn(6, dtype=torch.float64))
    torch.testing.assert_close(opencv_to_opengl(opengl_to_opencv(matrix)), matrix)
    camera = Camera.from_opengl(Intrinsics(1, 1, 0, 0, 2, 2), matrix)
    torch.testing.assert_close(camera.camera_to_world_opengl, matrix)
    torch.testing.assert_close(camera.position, matrix[:3, 3])
    # columns are the camera's axes in the world: x stays, y and z turn over
    torch.testing.assert_close(camera.camera_to_world[:3, 1], -matrix[:3, 1])


def test_colmap_quaternion_turns_as_by_hand():
    # quarter turn about z: x -> y, y -> -x; unnormalised on purpose
    camera = Camera.from_colmap(
        Intrinsics(1, 1, 0, 0, 2, 2), torch.tensor([2.0, 0, 0, 2.0]), torch.tensor([1.0, 2, 3])
    )
    wanted = torch.tensor([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    torch.testing.assert_close(camera.world_to_camera, wanted.double())


def test_colmap_rotation_equals_the_exponential_map():
    axis = torch.nn.functional.normalize(torch.randn(3, dtype=torch.float64), dim=0)
    quaternion = torch.cat([torch.tensor([math.cos(0.4)]), math.sin(0.4) * axis])
    camera = Camera.from_colmap(Intrinsics(1, 1, 0, 0, 2, 2), quaternion, torch.zeros(3))
    twist = torch.cat([torch.zeros(3, dtype=torch.float64), 0.8 * axis])
    torch.testing.assert_close(camera.world_to_camera, se3_exp(twist))


def test_resizing_moves_projections_with_the_pixels():
    camera = Camera(Intrinsics(90, 95, 41, 33, 80, 60), torch.eye(4))
    point = torch.tensor([0.1, -0.2, 1.5], dtype=torch.float64)
    u, v, _ = project(camera, point)
    half = camera.resized(40, 30)
    assert project(half, point)[:2] == pytest.approx((u / 2, v / 2))
    torch.testing.assert_close(
        half.intrinsics.matrix()[0], torch.tensor([45.0, 0, 20.5]), rtol=0, atol=0
    )


def test_camera_keeps_float64_and_refuses_other_shapes():
    camera = Camera(Intrinsics(1, 1, 0, 0, 2, 2), torch.eye(4, dtype=torch.float32))
    assert camera.world_to_camera.dtype == torch.float64
    assert camera.viewmat().dtype == torch.float32
    moved = camera.with_pose(se3_exp(torch.ones(6)))
    assert moved.intrinsics == camera.intrinsics and moved.position.norm() > 0
    with pytest.raises(ValueError, match=r"\[4, 4\]"):
        Camera(camera.intrinsics, torch.eye(3))


def twists(scale, n=50):
    generator = torch.Generator().manual_seed(3)
    return scale * torch.randn(n, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 0.3, 1.0])
def test_exponential_equals_the_matrix_exponential(scale):
    twist = twists(scale)
    generator = torch.zeros(50, 4, 4, dtype=torch.float64)
    generator[:, :3, :3] = hat(twist[:, 3:])
    generator[:, :3, 3] = twist[:, :3]
    torch.testing.assert_close(
        se3_exp(twist), torch.linalg.matrix_exp(generator), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 1e-2, 0.5])
def test_logarithm_inverts_the_exponential(scale):
    twist = twists(scale)
    twist = twist * (3.1 / twist[:, 3:].norm(dim=-1).clamp_min(3.1))[:, None]
    torch.testing.assert_close(se3_log(se3_exp(twist)), twist, rtol=1e-9, atol=1e-12)


def test_rotation_logarithm_holds_at_half_turns():
    for axis in torch.eye(3, dtype=torch.float64):
        rotation = 2 * axis[:, None] * axis[None] - torch.eye(3, dtype=torch.float64)
        assert so3_log(rotation).norm().item() == pytest.approx(math.pi)


def test_exponential_is_differentiable_at_zero_and_elsewhere():
    for twist in (torch.zeros(6, dtype=torch.float64), twists(0.7)[0]):
        assert torch.autograd.gradcheck(se3_exp, twist.clone().requires_grad_())


def test_pose_error_is_angle_and_distance_of_centres():
    a = torch.eye(4)
    turned = se3_exp(torch.tensor([0, 0, 0, 0, math.radians(30), 0], dtype=torch.float64))
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = torch.tensor([3.0, 0, 4])
    assert pose_error(a, turned) == pytest.approx((30, 0), abs=1e-9)
    assert pose_error(shift, a) == pytest.approx((0, 5), abs=1e-9)


@pytest.mark.parametrize("degrees", [1e-7, 1e-3, 90, 179.9, 180])
def test_pose_error_holds_for_tiny_and_half_turns(degrees):
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2, 3], dtype=torch.float64), dim=0)
    twist = torch.cat([torch.tensor([0.5, 0, 1]).double(), axis * math.radians(degrees)])
    pose = se3_exp(twists(0.7)[0])
    found = pose_error(se3_exp(twist) @ pose, pose)[0]
    assert found == pytest.approx(degrees, rel=1e-7, abs=1e-9 if degrees < 1 else 5e-6)


def test_what_several_pinholes_show_is_what_each_shows():
    own = Intrinsics(90, 95, 41, 33, 80, 60)
    several = [own, own.cropped(7, -3, 80, 60), Intrinsics.from_fov_x(0.7, 80, 60)]
    depth = 1 + torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
    found = unproject(depth, several)
    for points, z, pinhole in zip(found, depth, several, strict=True):
        torch.testing.assert_close(points, pinhole.unproject(z))
