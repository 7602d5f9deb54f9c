"""Normal equations of pose and light: the compiled back end, the reference, the backward pass."""

import pytest
import torch
from pose_rasterizer import pose_normal_equations, rasterize
from pose_rasterizer.normal_reference import twist_generators

GAUSSIANS = ("means", "quats", "scales", "opacities")


def solve(problem, dtype=torch.float64, **options):
    """pose_normal_equations with positional Gaussians, in `dtype`."""
    problem = {k: v.to(dtype) if torch.is_tensor(v) else v for k, v in problem.items()}
    gaussians = [problem.pop(name) for name in GAUSSIANS]
    return pose_normal_equations(*gaussians, **problem, **options)


@pytest.mark.parametrize(
    ("channels", "degree", "options"),
    [
        (1, None, {"robust": 0.0, "silhouette": False, "light": False}),
        (3, 2, {}),
        (6, 3, {"silhouette": False}),
        (5, 1, {"light": False, "size": (8, 17)}),
    ],
)
def test_compiled_system_equals_forward_mode_reference(
    problem, relative, channels, degree, options
):
    made = problem(channels, degree, **options)
    reference, compiled = solve(made), solve(made, torch.float32, backend="cpu")
    # worst seen 2e-6
    for name in ("cost", "H", "g", "image", "alpha"):
        assert relative(getattr(compiled, name), getattr(reference, name)) < 1e-5, name
    pose = (slice(None), slice(0, 6))
    assert relative(compiled.g[pose], reference.g[pose]) < 1e-5
    assert torch.equal(compiled.H, compiled.H.transpose(1, 2))


def test_held_colours_drop_the_direction_term(problem, relative):
    made = problem()
    exact, held = solve(made), solve(made, direction_term=False)
    compiled = solve(made, torch.float32, backend="cpu", direction_term=False)
    assert relative(held.g, exact.g) > 1e-4
    assert relative(compiled.g, held.g) < 1e-5
    assert relative(compiled.H, held.H) < 1e-5


def test_twist_gradient_equals_the_backward_pass(problem, relative):
    made = problem(channels=6, degree=3, robust=0.0, silhouette=False, n=400, size=(48, 56))
    system = solve(made, torch.float32, backend="cpu")
    made = {k: v.float() if torch.is_tensor(v) else v for k, v in made.items()}
    viewmat = made["viewmat"].requires_grad_()
    out = rasterize(
        *(made[k] for k in GAUSSIANS), sh=made["sh"], viewmat=viewmat,
        intrinsics=made["intrinsics"], size=made["size"], backend="cpu",
    )  # fmt: skip
    gain, offset, backdrop = (made[k][..., None, None] for k in ("gain", "offset", "backdrop"))
    image = gain * out.image + offset * out.alpha + (1 - out.alpha) * backdrop
    cost = 0.5 * (made["weight"] * (image - made["target"]) ** 2).sum((1, 2, 3))
    cost.sum().backward()
    generators = twist_generators(viewmat.detach())
    twist = torch.einsum("bij,kil,blj->bk", viewmat.grad, generators, viewmat.detach())
    assert relative(system.g[:, :6], twist) < 1e-4  # worst seen 2e-6
    assert relative(system.cost, cost) < 1e-5


def test_gradient_is_the_slope_of_the_robust_cost(problem):
    made = problem(n=8)
    system = solve(made)
    step = 1e-5
    for index, name in ((6, "gain"), (10, "offset")):
        channel = (index - 6) % 3
        costs = []
        for sign in (1, -1):
            moved = {k: v.clone() if torch.is_tensor(v) else v for k, v in made.items()}
            moved[name][:, channel] += sign * step
            costs.append(solve(moved, backend="reference").cost)
        slope = (costs[0] - costs[1]) / (2 * step)
        assert torch.allclose(slope, system.g[:, index], rtol=1e-5)


@pytest.mark.parametrize(
    ("channels", "degree", "options"),
    [
        (1, None, {"robust": 0.0, "silhouette": False}),
        (3, 2, {"robust": 0.4}),
        (6, 3, {"robust": 0.4}),
        (5, 1, {"size": (8, 17)}),
    ],
)
def test_tile_light_equals_forward_mode_reference(problem, relative, channels, degree, options):
    made = problem(channels, degree, **options) | {"light": "tile", "silhouette_scale": 0.7}
    made["weight"][:, :, 4:9] = 0  # windows with holes
    reference, compiled = solve(made), solve(made, torch.float32, backend="cpu")
    assert compiled.H.shape == (2, 6, 6) and compiled.g.shape == (2, 6)
    for name in ("cost", "H", "g", "image", "alpha"):
        assert relative(getattr(compiled, name), getattr(reference, name)) < 1e-5, name
    assert torch.equal(compiled.H, compiled.H.transpose(1, 2))


def test_tile_light_gradient_is_the_slope_of_its_robust_cost(problem):
    made = problem(3, 2, robust=0.4, batch=1) | {"light": "tile", "silhouette_scale": 0.7}
    system, step = solve(made), 1e-5
    for axis, generator in enumerate(twist_generators(made["viewmat"])):
        costs = [
            solve(made | {"viewmat": torch.matrix_exp(sign * step * generator) @ made["viewmat"]})
            for sign in (1, -1)
        ]
        slope = (costs[0].cost - costs[1].cost) / (2 * step)
        assert torch.allclose(slope, system.g[:, axis], rtol=1e-4, atol=1e-4), axis


def test_tile_light_cost_ignores_gain_and_offset_of_a_window(problem, relative):
    made = problem(3, 2, silhouette=False, size=(16, 16)) | {"light": "tile"}
    made["contrast_floor"] = 1e-4  # the floor is the one thing that knows how strong light is
    relit = dict(made)
    light = torch.tensor([[0.5, 1.0], [1.5, 2.0]]).double()
    light = light.repeat_interleave(8, 0).repeat_interleave(8, 1)
    relit["target"] = made["target"] * light + 0.3 * light.flip(0)
    first, second = solve(made), solve(relit)
    for name in ("cost", "H", "g"):
        assert relative(getattr(second, name), getattr(first, name)) < 1e-5, name


def test_two_runs_and_any_thread_count_are_equal_bit_for_bit(problem):
    made = problem(channels=6, degree=3, n=300, size=(70, 90))
    threads = torch.get_num_threads()
    try:
        systems = []
        for count in (1, 3, 3):
            torch.set_num_threads(count)
            systems.append(solve(made, torch.float32, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in systems[1:]:
        assert all(torch.equal(a, b) for a, b in zip(systems[0], other, strict=True))


@pytest.mark.parametrize("n", [0, 1])
def test_empty_scene_has_the_backdrops_cost_and_no_slope(problem, n):
    made = problem(n=n)
    made["means"][:] = 100.0  # far outside the image
    system = solve(made, torch.float32, backend="cpu")
    assert float(system.H.abs().max()) == 0 and float(system.g.abs().max()) == 0
    assert float(system.alpha.max()) == 0
    square = (made["backdrop"][..., None, None] - made["target"]) ** 2
    cost = 0.5 * (made["weight"] * square / (1 + square / 0.2**2)).sum((1, 2, 3))
    shape = 0.5 * (made["silhouette_weight"] * made["silhouette_target"] ** 2).sum((1, 2, 3))
    assert torch.allclose(system.cost, cost + shape, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"target": torch.zeros(2, 3, 4, 4)}, "target must have shape"),
        ({"silhouette_weight": None}, "together"),
        ({"viewmat": torch.eye(4)}, r"viewmat must have shape \[B, 4, 4\]"),
        ({"gain": torch.ones(2, 4)}, "gain must have shape"),
        ({"gain": None}, "give gain and offset"),
        ({"light": "pixel"}, "light must be"),
        ({"light": "tile", "contrast_floor": 0.0}, "contrast_floor"),
    ],
)
def test_wrong_shapes_are_named(problem, change, text):
    with pytest.raises(ValueError, match=text):
        solve(problem() | change, torch.float32)
