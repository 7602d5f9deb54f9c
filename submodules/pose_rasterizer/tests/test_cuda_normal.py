"""The normal equations' CUDA kernels against the float64 reference.

On a GPU where there is one (marked gpu), and everywhere on the CPU through tests/emulator; see
test_cuda.py.
"""

import pytest
import torch
from pose_rasterizer import cuda, normal_cuda, pose_normal_equations

GAUSSIANS = ("means", "quats", "scales", "opacities")
pytestmark = pytest.mark.parametrize(
    "device", ["emulated", pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True
)
FOUND = ("cost", "H", "g", "image", "alpha")


def solve(problem, device, dtype=torch.float32, **options):
    """pose_normal_equations with the tensors on a device; the result on the CPU."""
    there = {k: v.to(device, dtype) if torch.is_tensor(v) else v for k, v in problem.items()}
    gaussians = [there.pop(name) for name in GAUSSIANS]
    found = pose_normal_equations(*gaussians, **there, **options)
    assert all(t.device.type == device for t in found)
    return type(found)(*(t.cpu() for t in found))


@pytest.fixture
def compare(device, relative):
    """compare(problem): the kernels' system against the float64 reference's."""

    def run(problem, tolerance=1e-4, **options):
        reference = solve(problem, "cpu", torch.float64, backend="reference", **options)
        found = solve(problem, device, **options)
        assert found.H.dtype == torch.float64
        for name in FOUND:
            value, exact = getattr(found, name), getattr(reference, name)
            assert relative(value, exact) <= tolerance, name  # worst seen 4e-6
        pose = (slice(None), slice(0, 6))
        assert relative(found.g[pose], reference.g[pose]) <= tolerance
        assert torch.equal(found.H, found.H.transpose(1, 2))
        return found, reference

    return run


@pytest.mark.parametrize(
    ("channels", "degree", "options"),
    [
        (1, None, {"robust": 0.0, "silhouette": False, "light": False}),
        (3, 2, {}),
        (6, 3, {"silhouette": False}),
        (5, 1, {"light": False, "size": (8, 17)}),
        (8, 3, {"n": 60, "size": (20, 18), "batch": 1}),
    ],
)
def test_kernels_match_forward_mode_reference(compare, problem, channels, degree, options):
    compare(problem(channels, degree, **options))


def test_held_colours_drop_the_direction_term(compare, problem, relative):
    made = problem()
    held, _ = compare(made, direction_term=False)
    exact, _ = compare(made)
    assert relative(held.g, exact.g) > 1e-4


@pytest.mark.parametrize("opacity", [(0.05, 0.95), (0.995, 0.9999)])
def test_long_thin_and_clamped_gaussians_match(compare, problem, opacity):
    made = problem(3, 1, n=40, size=(33, 40), batch=1)
    made["scales"][:, 0] *= 12
    low, high = opacity
    made["opacities"] = (low + (high - low) * made["opacities"]).float().double()
    compare(made)


def test_tiles_without_a_list_search_the_scene(compare, problem, monkeypatch):
    made = problem(3, 0, n=700, size=(20, 20), batch=1)
    made["opacities"] *= 0.2
    made["opacities"] = made["opacities"].float().double()
    monkeypatch.setattr(cuda, "_memory_limit", lambda device: 900)  # room for one tile's list
    compare(made)


def test_cameras_in_turns_equal_cameras_at_once(device, problem, monkeypatch):
    made = problem(3, 1, n=30, batch=3)
    together = solve(made, device)
    monkeypatch.setattr(normal_cuda, "MAX_SCRATCH_BYTES", 1)
    for name, a, b in zip(FOUND, together, solve(made, device), strict=True):
        assert torch.equal(a, b), name


def test_two_runs_are_equal_bit_for_bit(device, problem):
    made = problem(6, 2, n=80, size=(33, 40))
    for a, b in zip(solve(made, device), solve(made, device), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("n", [0, 1])
def test_empty_scene_has_the_backdrops_cost_and_no_slope(compare, problem, n):
    made = problem(n=n)
    made["means"][:] = 100.0  # far outside the image
    found, _ = compare(made)
    assert float(found.H.abs().max()) == 0 and float(found.g.abs().max()) == 0


def test_more_than_eight_channels_go_through_the_host(compare, problem):
    compare(problem(9, 1, n=12, size=(9, 10)))


@pytest.mark.parametrize(
    ("channels", "degree", "options"),
    [
        (1, None, {"robust": 0.0, "silhouette": False}),
        (3, 2, {"robust": 0.4}),
        (6, 3, {"robust": 0.4}),
        (5, 1, {"size": (8, 17)}),
        (8, 0, {"n": 60, "size": (20, 18), "batch": 1}),
    ],
)
def test_tile_light_matches_forward_mode_reference(compare, problem, channels, degree, options):
    made = problem(channels, degree, **options) | {"light": "tile", "silhouette_scale": 0.7}
    made["weight"][:, :, 4:9] = 0  # windows with holes
    made["weight"][:, :, :8, :8] = 0  # and without any weight
    found, _ = compare(made)
    assert found.H.shape[1:] == (6, 6)


@pytest.mark.parametrize("n", [0, 1])
def test_tile_light_of_an_empty_scene_has_no_slope(compare, problem, n):
    made = problem(n=n, batch=1) | {"light": "tile"}
    made["means"][:] = 100.0
    found, _ = compare(made)
    assert not found.H.any() and not found.g.any() and found.cost.min() > 0
