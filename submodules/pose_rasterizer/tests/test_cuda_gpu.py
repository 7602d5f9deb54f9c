"""What only a GPU shows: large sizes, races, capture, no waiting, memory."""

import pytest
import torch
from pose_rasterizer import cuda, pose_normal_equations, rasterize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
GAUSSIAN = ("means", "quats", "scales", "opacities", "features")


def to_gpu(scene, dtype=torch.float32):
    return {k: v.to("cuda", dtype) if torch.is_tensor(v) else v for k, v in scene.items()}


def differing(a, b, tolerance):
    """Share of the pixels that differ by more than the tolerance."""
    return float(((a.double() - b.double()).abs().amax(-3) > tolerance).double().mean())


@pytest.mark.parametrize(
    ("count", "size", "scale"),
    [(20_000, (200, 200), 0.03), (3000, (127, 255), 0.2), (50_000, (400, 400), 0.01)],
)
def test_larger_scenes_match_the_reference(make_scene, gradients, relative, count, size, scale):
    scene = make_scene(count, size, degree=3, seed=count, scale=scale)
    wanted = (*GAUSSIAN, "viewmat", "background", "offset")
    out, grads = gradients(to_gpu(scene), "cuda", torch.float32, wanted, ("image", "alpha"))
    ref, exact = gradients(
        to_gpu(scene, torch.float64), "reference", torch.float64, wanted, ("image", "alpha")
    )
    # a pixel at the edge of a splat's visibility may fall on either side of it
    assert differing(out.image, ref.image, 1e-4) <= 1e-3
    assert differing(out.alpha, ref.alpha, 1e-4) <= 1e-3
    for name in wanted:
        assert relative(grads[name], exact[name]) <= 1e-3, name


@pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 4096), (1080, 1920)])
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_image_sizes_from_one_pixel_to_4096(make_scene, gradients, size, count):
    scene = to_gpu(make_scene(count, size, degree=1, scale=0.02))
    out, grads = gradients(scene, "cuda", torch.float32, wanted=(*GAUSSIAN, "viewmat"))
    assert torch.isfinite(out.image).all() and (out.alpha <= 1).all()
    assert all(torch.isfinite(g).all() for g in grads.values())


@pytest.mark.parametrize("size", [(1, 1), (400, 400), (4096, 4096)])
def test_two_million_gaussians(make_scene, gradients, size):
    scene = to_gpu(make_scene(2_000_000, size, degree=0, scale=0.003))
    for _ in range(2):  # the second call knows how long the lists are
        out, grads = gradients(scene, "cuda", torch.float32, wanted=(*GAUSSIAN, "viewmat"))
        assert torch.isfinite(out.image).all() and torch.isfinite(grads["viewmat"]).all()
    assert grads["viewmat"].abs().max() > 0


def test_results_do_not_depend_on_the_room_for_lists(make_scene, gradients, monkeypatch):
    scene = to_gpu(make_scene(20_000, (160, 200), degree=1, scale=0.05))
    full, _ = gradients(scene, "cuda", torch.float32, wanted=("viewmat",))
    monkeypatch.setattr(cuda, "_memory_limit", lambda device: 30_000)
    some, _ = gradients(scene, "cuda", torch.float32, wanted=("viewmat",))
    assert torch.equal(full.image, some.image) and torch.equal(full.depth, some.depth)


def test_two_runs_are_equal_in_deterministic_mode(make_scene, gradients, relative):
    scene = to_gpu(make_scene(50_000, (300, 300), degree=2, scale=0.03))
    wanted = (*GAUSSIAN, "viewmat")
    _, quick = gradients(scene, "cuda", torch.float32, wanted)
    torch.use_deterministic_algorithms(True)
    try:
        runs = [gradients(scene, "cuda", torch.float32, wanted) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for out, grads in runs[1:]:
        assert torch.equal(out.image, runs[0][0].image)
        assert all(torch.equal(grads[k], runs[0][1][k]) for k in wanted)
    assert all(relative(runs[0][1][k], quick[k]) <= 1e-4 for k in wanted)


def test_a_batch_equals_its_cameras(make_scene, gradients, relative):
    scene = to_gpu(make_scene(5000, (100, 130), degree=3, scale=0.05))
    shifts = torch.zeros(5, 4, 4, device="cuda")
    shifts[:, 0, 3] = torch.linspace(-0.2, 0.2, 5)
    many = dict(scene, viewmat=scene["viewmat"] + shifts)
    together = gradients(many, "cuda", torch.float32, ("viewmat",), ("image",))[0]
    for b in range(5):
        one = gradients(
            dict(scene, viewmat=many["viewmat"][b]), "cuda", torch.float32, ("viewmat",)
        )
        assert torch.equal(one[0].image, together.image[b])


def test_nothing_waits_for_the_device(make_scene, gradients):
    scene = to_gpu(make_scene(1000, (64, 64), degree=1))
    run = lambda: gradients(scene, "cuda", torch.float32, wanted=("means", "viewmat"))  # noqa: E731
    run()
    given = {k: scene[k].requires_grad_() for k in ("means", "viewmat")}
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = rasterize(
            *(scene[k] for k in GAUSSIAN[:4]), sh=scene["features"], viewmat=given["viewmat"],
            intrinsics=scene["intrinsics"], size=scene["size"],
        )  # fmt: skip
        torch.autograd.grad(out.image.sum(), list(given.values()))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_pose_step_can_be_captured_in_a_graph(make_scene, relative):
    scene = to_gpu(make_scene(3000, (80, 96), degree=2, scale=0.05))
    viewmat = scene["viewmat"].clone().requires_grad_()

    def step():
        out = rasterize(
            *(scene[k] for k in GAUSSIAN[:4]), sh=scene["features"], viewmat=viewmat,
            intrinsics=scene["intrinsics"], size=scene["size"], background=scene["background"],
        )  # fmt: skip
        return out.image, torch.autograd.grad((out.image**2).sum(), viewmat)[0]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        image, gradient = step()
    with torch.no_grad():
        viewmat[0, 3] += 0.1
    graph.replay()
    torch.cuda.synchronize()
    fresh_image, fresh_gradient = step()
    assert torch.equal(image, fresh_image)
    assert relative(gradient.cpu(), fresh_gradient.cpu()) <= 1e-4


NORMAL = ("cost", "H", "g", "image", "alpha")


def solve(problem, device, **options):
    there = {k: v.to(device).float() if torch.is_tensor(v) else v for k, v in problem.items()}
    gaussians = [there.pop(k) for k in GAUSSIAN[:4]]
    return pose_normal_equations(*gaussians, **there, **options)


@pytest.mark.parametrize("tile", [{}, {"light": "tile"}])
@pytest.mark.parametrize(
    ("n", "size", "channels", "batch"),
    [(20_000, (200, 200), 6, 3), (5000, (127, 255), 3, 2), (50_000, (400, 400), 6, 1)],
)
def test_normal_equations_equal_the_cpus(problem, relative, n, size, channels, batch, tile):
    made = problem(channels, 3, n=n, size=size, batch=batch) | tile
    made["scales"] = (made["scales"] * (20 / n) ** 0.5).float().double()
    exact, found = solve(made, "cpu"), solve(made, "cuda")
    again = solve(made, "cuda")
    for name in NORMAL:
        value = getattr(found, name)
        assert value.is_cuda and torch.equal(value, getattr(again, name)), name
        assert relative(value.cpu(), getattr(exact, name)) <= 1e-3, name


def test_normal_equations_can_be_captured_and_wait_for_nothing(problem):
    made = problem(6, 2, n=3000, size=(80, 96))
    there = {k: v.cuda().float() if torch.is_tensor(v) else v for k, v in made.items()}
    gaussians = [there.pop(k) for k in GAUSSIAN[:4]]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            pose_normal_equations(*gaussians, **there)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_sync_debug_mode("error")
    try:
        fresh = pose_normal_equations(*gaussians, **there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = pose_normal_equations(*gaussians, **there)
    graph.replay()
    torch.cuda.synchronize()
    for a, b in zip(fresh, captured, strict=True):
        assert torch.equal(a, b)
