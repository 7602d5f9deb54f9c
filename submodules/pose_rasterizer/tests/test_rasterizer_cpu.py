"""The C++ back end against the float64 reference."""

import multiprocessing

import pytest
import torch
from pose_rasterizer import rasterize

IMAGE_BAR, GRADIENT_BAR = 1e-4, 1e-3  # worst seen on these scenes: 2e-6 and 2e-5
CASES = {
    "one gaussian": dict(n=1, size=(9, 11)),
    "one pixel": dict(n=40, size=(1, 1), scale=0.3),
    "odd size": dict(n=200, size=(17, 33), degree=3),
    "one column": dict(n=60, size=(31, 1), degree=2, scale=0.4),
    "grey": dict(n=100, size=(20, 24), channels=1, degree=0),
    "four channels": dict(n=100, size=(20, 24), channels=4),
    "six channels": dict(n=150, size=(24, 40), channels=6, degree=3),
    "seven channels": dict(n=100, size=(20, 24), channels=7, degree=2),
    "eleven channels": dict(n=60, size=(12, 16), channels=11, degree=1),
    "colours": dict(n=100, size=(20, 24), degree=None),
    "camera inside": dict(n=300, size=(24, 32), distance=0.2, spread=1.0),
    "saturating": dict(n=60, size=(24, 24), opacity=(0.97, 1.0), scale=0.5),
    "nearly transparent": dict(n=200, size=(24, 24), opacity=(0.0, 0.02), scale=0.5),
    "long and thin": dict(n=100, size=(40, 40), scale=0.3, seed=5),
}


def make(make_scene, name):
    scene = make_scene(**CASES[name])
    if name == "long and thin":
        scene["scales"][:, 1:] *= 0.02
    return scene


@pytest.mark.parametrize("name", CASES)
def test_image_and_gradients_match_the_reference(make_scene, gradients, relative, name):
    scene = make(make_scene, name)
    out, found = gradients(scene, "cpu", torch.float32)
    truth, expected = gradients(scene, "reference", torch.float64)
    for output in ("image", "alpha"):
        difference = (getattr(out, output) - getattr(truth, output)).abs().max()
        assert difference <= IMAGE_BAR, output
    depth_bar = IMAGE_BAR * max(1.0, float(truth.depth.detach().max()))
    assert (out.depth - truth.depth).abs().max() <= depth_bar
    assert (out.radii - truth.radii).abs().max() <= 1  # rounding up
    for key in expected:
        assert relative(found[key], expected[key]) <= GRADIENT_BAR, key


def test_no_gaussian_gives_the_background(make_scene, gradients):
    scene = make_scene(0, (5, 13))
    out, found = gradients(scene, "cpu", torch.float32)
    background = scene["background"].float()
    assert torch.equal(out.image, background[:, None, None].expand(3, 5, 13))
    assert not out.alpha.any() and not out.depth.any()
    assert found["means"].shape == (0, 3) and not found["viewmat"].any()
    assert found["background"].abs().min() > 0


def test_everything_behind_the_camera_gives_the_background(make_scene, gradients):
    scene = make_scene(30, (9, 9))
    scene["viewmat"][2, 3] = -20
    out, found = gradients(scene, "cpu", torch.float32)
    assert not out.radii.any() and not out.alpha.any()
    for name in ("means", "quats", "scales", "opacities", "features", "offset", "viewmat"):
        assert not found[name].any(), name


def test_not_a_number_is_culled(make_scene, render):
    scene = make_scene(20, (16, 16))
    scene = {k: v.float() if torch.is_tensor(v) else v for k, v in scene.items()}
    clean = render({k: v[1:] if k in ("means", "quats", "scales", "opacities", "features", "offset")
                    else v for k, v in scene.items()}, "cpu")  # fmt: skip
    for name in ("means", "scales", "opacities"):
        broken = scene | {name: scene[name].clone()}
        broken[name][0] = float("nan")
        out = render(broken, "cpu")
        assert out.radii[0] == 0 and torch.equal(out.image, clean.image), name


def test_two_runs_and_any_number_of_threads_give_the_same_bits(make_scene, gradients):
    scene = make_scene(700, (61, 83), 6, 3, seed=2)
    runs, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 2, 5):
            torch.set_num_threads(threads)
            runs.append(gradients(scene, "cpu", torch.float32))
    finally:
        torch.set_num_threads(before)
    for out, found in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(out, runs[0][0], strict=True))
        for name, value in found.items():
            assert torch.equal(value, runs[0][1][name]), name


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system can't fork"
)
def test_a_forked_child_renders_with_threads_of_its_own(make_scene, gradients):
    """OpenMP's threads don't survive a fork: a child that waited for them would hang."""
    scene = make_scene(300, (40, 40), seed=3)
    before = torch.get_num_threads()
    fork = multiprocessing.get_context("fork")
    try:
        torch.set_num_threads(2)
        parent, _ = gradients(scene, "cpu", torch.float32)

        def render_again():
            out, _ = gradients(scene, "cpu", torch.float32)
            raise SystemExit(0 if torch.equal(out.image, parent.image) else 1)

        child = fork.Process(target=render_again)
        child.start()
        child.join(60)
        hangs = child.is_alive()
        child.kill()
        assert not hangs and child.exitcode == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "wanted", [("viewmat",), ("means",), ("features",), ("offset",), ("opacities", "background")]
)
def test_asking_for_less_gives_the_same_gradients(make_scene, gradients, wanted):
    scene = make_scene(80, (30, 30), 3, 2)
    _, everything = gradients(scene, "cpu", torch.float32)
    _, some = gradients(scene, "cpu", torch.float32, wanted)
    for name in wanted:
        assert torch.allclose(some[name], everything[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("output", ["image", "alpha", "depth"])
def test_a_single_output_has_its_own_gradient(make_scene, gradients, relative, output):
    scene = make_scene(60, (20, 20), 3, None)
    wanted = ("means", "viewmat", "opacities", "scales")
    _, found = gradients(scene, "cpu", torch.float32, wanted, outputs=(output,))
    _, expected = gradients(scene, "reference", torch.float64, wanted, outputs=(output,))
    for name in wanted:
        assert relative(found[name], expected[name]) <= GRADIENT_BAR, name


def test_batch_is_its_cameras_one_by_one(make_scene, gradients):
    scene = make_scene(120, (22, 30), 3, 2)
    viewmats = scene["viewmat"].repeat(3, 1, 1)
    viewmats[:, :3, 3] += torch.tensor([[0.0, 0, 0], [0.2, 0, 0.1], [0, -0.1, 0.4]])
    backgrounds = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(3, 3, 22, 30, generator=torch.Generator().manual_seed(1))

    shared = ("means", "quats", "scales", "opacities", "features", "offset")

    def run(pick):
        given = {k: scene[k].float().clone().requires_grad_() for k in shared}
        cameras = viewmats[pick].float().requires_grad_()
        out = rasterize(
            given["means"], given["quats"], given["scales"], given["opacities"],
            sh=given["features"], viewmat=cameras, intrinsics=scene["intrinsics"].float(),
            size=scene["size"], background=backgrounds[pick], means2d_offset=given["offset"],
        )  # fmt: skip
        (weights[pick] * out.image).sum().backward()
        return out, {k: v.grad for k, v in given.items()}, cameras.grad

    out, grads, v_cameras = run([0, 1, 2])
    assert out.image.shape == (3, 3, 22, 30) and out.radii.shape == (3, 120)
    singles = [run([b]) for b in range(3)]
    for b, (single, _, v_camera) in enumerate(singles):
        assert torch.equal(out.image[b], single.image[0]) and torch.equal(v_cameras[b], v_camera[0])
    for name, grad in grads.items():
        total = sum(s[1][name] for s in singles)
        assert torch.allclose(grad, total, rtol=1e-4, atol=1e-5), name


def test_sh_degree_limits_the_bands_used(make_scene, render, gradients):
    scene = make_scene(50, (16, 16), 3, 3)
    low = scene | {"features": scene["features"][:, :4]}
    low = {k: v.float() if torch.is_tensor(v) else v for k, v in low.items()}
    full = {k: v.float() if torch.is_tensor(v) else v for k, v in scene.items()}
    assert torch.equal(render(full, "cpu", sh_degree=1).image, render(low, "cpu").image)
    _, found = gradients(scene, "cpu", torch.float32, ("features",), sh_degree=1)
    assert not found["features"][:, 4:].any() and found["features"][:, :4].any()


def test_backward_twice_gives_the_same(make_scene, render):
    scene = make_scene(40, (16, 16))
    scene = {k: v.float() if torch.is_tensor(v) else v for k, v in scene.items()}
    means = scene["means"].requires_grad_()
    image = render(scene, "cpu").image
    first = torch.autograd.grad(image.sum(), means, retain_graph=True)[0]
    render(scene, "cpu")  # another frame in between must not disturb the kept one
    assert torch.equal(first, torch.autograd.grad(image.sum(), means)[0])


def test_strided_inputs_are_read_right(make_scene, render):
    scene = make_scene(40, (16, 16))
    scene = {k: v.float() if torch.is_tensor(v) else v for k, v in scene.items()}
    strided = scene | {k: scene[k].T.contiguous().T for k in ("means", "viewmat")}
    assert not strided["means"].is_contiguous()
    assert torch.equal(render(scene, "cpu").image, render(strided, "cpu").image)


def test_pose_gradient_matches_finite_differences_of_the_cpu_image(make_scene, render):
    """Central differences of float32 images of wide Gaussians (no cut-off in view)."""
    scene = make_scene(6, (24, 24), 3, 3, seed=9, spread=0.15, scale=9.0, opacity=(0.1, 0.4))
    scene = {k: v.float() if torch.is_tensor(v) else v for k, v in scene.items()}
    weight = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(0)).double()
    viewmat = scene["viewmat"].clone().requires_grad_()
    image = render(scene | {"viewmat": viewmat}, "cpu").image
    grad = torch.autograd.grad(image, viewmat, weight.float())[0]
    step = 2e-3
    for row, column in ((0, 3), (1, 3), (2, 3), (0, 1), (1, 2), (2, 0)):
        sides = []
        for sign in (1, -1):
            moved = scene["viewmat"].clone()
            moved[row, column] += sign * step
            out = render(scene | {"viewmat": moved}, "cpu")
            sides.append((weight * out.image.double()).sum().item())
        numeric = (sides[0] - sides[1]) / (2 * step)
        assert abs(numeric - grad[row, column].item()) <= 2e-2 * grad.abs().max().item()
