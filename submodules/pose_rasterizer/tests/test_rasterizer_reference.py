"""The torch reference against finite differences, hand-computed pixels and symmetries."""

import math

import pytest
import torch
from pose_rasterizer import rasterize

NAMES = ("means", "quats", "scales", "opacities", "features", "viewmat", "background", "offset")
DTYPE = torch.float64


def one_gaussian(opacity=0.5, scale=0.2, z=2.0, size=(9, 9), colour=(0.2, 0.6, 1.0), **kwargs):
    """A round Gaussian on the optical axis, in front of a black background."""
    focal = 10.0
    intrinsics = [[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]]
    return rasterize(
        torch.tensor([[0.0, 0.0, z]], dtype=DTYPE),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=DTYPE),
        torch.full((1, 3), scale, dtype=DTYPE),
        torch.tensor([opacity], dtype=DTYPE),
        colours=torch.tensor([colour], dtype=DTYPE),
        viewmat=torch.eye(4, dtype=DTYPE),
        intrinsics=torch.tensor(intrinsics, dtype=DTYPE),
        size=size,
        **kwargs,
    )


def test_round_gaussian_has_its_hand_computed_profile():
    out = one_gaussian()
    variance = (10.0 / 2.0 * 0.2) ** 2 + 0.3  # px^2: (f/z * scale)^2 + blur
    for dx in range(4):
        alpha = 0.5 * math.exp(-0.5 * dx * dx / variance)
        expected = alpha if alpha >= 1 / 255 else 0.0
        assert math.isclose(out.alpha[0, 4, 4 + dx].item(), expected, rel_tol=1e-12)
        assert math.isclose(out.image[1, 4, 4 + dx].item(), 0.6 * expected, rel_tol=1e-12)
    assert math.isclose(out.depth[0, 4, 4].item(), 2.0, rel_tol=1e-12)
    assert out.depth[0, 0, 0] == 0 and out.alpha[0, 0, 0] == 0
    extent = math.sqrt(2 * math.log(255 * 0.5) * variance)
    assert out.radii.tolist() == [math.ceil(extent)]


def test_alpha_saturates_at_099():
    assert math.isclose(one_gaussian(opacity=1.0).alpha.max().item(), 0.99, rel_tol=1e-12)


def test_near_plane_and_transparent_gaussians_are_culled():
    assert one_gaussian(z=0.01).radii.item() == 0
    assert one_gaussian(z=0.0101).radii.item() > 0
    assert one_gaussian(z=3.0, near=3.0).radii.item() == 0
    assert one_gaussian(opacity=1 / 256).radii.item() == 0


def test_nearer_gaussian_hides_the_farther_one_until_transmittance_ends():
    n = 6
    means = torch.zeros(n, 3, dtype=DTYPE)
    means[:, 2] = torch.linspace(3, 2, n, dtype=DTYPE)  # given back to front
    colours = torch.eye(n, dtype=DTYPE)
    out = rasterize(
        means, torch.tensor([[1.0, 0, 0, 0]], dtype=DTYPE).expand(n, 4),
        torch.full((n, 3), 5.0, dtype=DTYPE), torch.full((n,), 0.9, dtype=DTYPE), colours=colours,
        viewmat=torch.eye(4, dtype=DTYPE),
        intrinsics=torch.tensor([[10.0, 0, 0.5], [0, 10, 0.5], [0, 0, 1]], dtype=DTYPE),
        size=(1, 1),
    )  # fmt: skip
    # transmittance 0.1, 0.01, 1e-3, then 1e-4 up to rounding; the pixel is at the centres
    weights = out.image[:, 0, 0].flip(0)
    expected = [0.9, 0.09, 0.009]
    assert torch.allclose(weights[:3], torch.tensor(expected, dtype=DTYPE), rtol=1e-9)
    assert weights[4] == 0 and weights[5] == 0


def test_colours_of_sh_follow_the_viewing_direction():
    """A band-1 coefficient along z: seen along +z it adds C1, along -z it takes C1 away."""
    sh = torch.zeros(1, 4, 1, dtype=DTYPE)
    sh[0, 2, 0] = 0.3
    turned = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=DTYPE))  # half a turn about y
    turned[2, 3] = 4.0
    straight = torch.eye(4, dtype=DTYPE)
    for viewmat, sign in ((straight, 1), (turned, -1)):
        out = rasterize(
            torch.tensor([[0.0, 0.0, 2.0]], dtype=DTYPE),
            torch.tensor([[1.0, 0, 0, 0]], dtype=DTYPE),
            torch.full((1, 3), 0.5, dtype=DTYPE), torch.tensor([0.8], dtype=DTYPE), sh=sh,
            viewmat=viewmat,
            intrinsics=torch.tensor([[10.0, 0, 0.5], [0, 10, 0.5], [0, 0, 1]], dtype=DTYPE),
            size=(1, 1),
        )  # fmt: skip
        expected = 0.8 * (0.5 + sign * 0.3 * 0.4886025119029199)
        assert math.isclose(out.image.item(), expected, rel_tol=1e-12)


@pytest.mark.parametrize(("degree", "channels"), [(3, 1), (None, 2)])
def test_gradients_match_finite_differences(make_scene, render, degree, channels):
    """float64 gradcheck of image, alpha and depth by every differentiable input."""
    scene = make_scene(2, (3, 4), channels, degree, seed=3, spread=0.2, scale=0.4)

    def run(*tensors):
        out = render(scene | dict(zip(NAMES, tensors, strict=True)), "reference")
        return out.image, out.alpha, out.depth

    inputs = [scene[k].clone().requires_grad_() for k in NAMES]
    assert torch.autograd.gradcheck(run, inputs, eps=1e-7, atol=2e-5, rtol=1e-4)


def test_gradients_of_a_batch_match_finite_differences(make_scene):
    scene = make_scene(2, (3, 4), 2, 1, seed=4, spread=0.2, scale=0.4)
    viewmats = torch.stack([scene["viewmat"], scene["viewmat"]])
    viewmats[1, :3, 3] += torch.tensor([0.05, -0.04, 0.2], dtype=DTYPE)
    backgrounds = torch.rand(2, 2, generator=torch.Generator().manual_seed(0), dtype=DTYPE)

    def run(means, viewmats, backgrounds):
        return rasterize(
            means, scene["quats"], scene["scales"], scene["opacities"], sh=scene["features"],
            viewmat=viewmats, intrinsics=scene["intrinsics"], size=scene["size"],
            background=backgrounds,
        ).image  # fmt: skip

    inputs = [t.clone().requires_grad_() for t in (scene["means"], viewmats, backgrounds)]
    assert torch.autograd.gradcheck(run, inputs, eps=1e-7, atol=2e-5, rtol=1e-4)


def test_gradient_is_exact_where_the_jacobian_is_clamped(make_scene, render):
    """A wide Gaussian whose centre lies beyond 1.3 half fields of view still reaches the image."""
    scene = make_scene(2, (4, 4), 1, None, seed=5)
    scene["viewmat"] = torch.eye(4, dtype=DTYPE)
    scene["means"] = torch.tensor([[1.3, 0.1, 2.0], [-0.2, -1.5, 2.2]], dtype=DTYPE)
    scene["scales"] = torch.tensor([[0.9, 0.8, 0.7], [0.8, 0.9, 0.7]], dtype=DTYPE)
    out = render(scene, "reference")
    assert (out.alpha > 0).all() and (out.radii > 0).all()

    def run(means, viewmat):
        return render(scene | {"means": means, "viewmat": viewmat}, "reference").image

    inputs = [scene[k].clone().requires_grad_() for k in ("means", "viewmat")]
    assert torch.autograd.gradcheck(run, inputs, eps=1e-7, atol=2e-5, rtol=1e-4)


def test_checkpointing_changes_nothing(make_scene, gradients, monkeypatch):
    scene = make_scene(40, (20, 35))
    out, plain = gradients(scene, "reference", DTYPE)
    monkeypatch.setattr("pose_rasterizer.reference.CHECKPOINT_PAIRS", 0)
    again, bounded = gradients(scene, "reference", DTYPE)
    assert torch.equal(out.image, again.image)
    for name in plain:
        assert torch.allclose(plain[name], bounded[name], rtol=1e-12, atol=1e-14), name


def test_moving_scene_and_camera_together_changes_nothing(make_scene, render):
    """Degree 0: the image depends on the pose of the Gaussians in the camera only."""
    scene = make_scene(20, (12, 14), 3, 0, seed=8)
    shift = torch.tensor([0.4, -1.2, 0.7], dtype=DTYPE)
    moved = scene | {"means": scene["means"] + shift, "viewmat": scene["viewmat"].clone()}
    moved["viewmat"][:3, 3] -= scene["viewmat"][:3, :3] @ shift
    a, b = render(scene, "reference"), render(moved, "reference")
    assert torch.allclose(a.image, b.image, atol=1e-12)
