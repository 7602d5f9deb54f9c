"""The CUDA back end against the float64 reference.

Each test runs on a GPU where there is one (marked gpu), and everywhere on the CPU through
tests/emulator: the same kernels, blocks in turn, threads as fibers. What only a GPU shows (races,
capture, large sizes) is in test_cuda_gpu.py.
"""

import ctypes

import pytest
import torch
from pose_rasterizer import cuda, ops, room

ALL = ("means", "quats", "scales", "opacities", "features", "viewmat", "background", "offset")


@pytest.fixture
def compare(device, gradients, relative):
    """compare(scene): image and gradients of the kernels against the float64 reference."""

    def run(scene, wanted=ALL, outputs=("image", "alpha", "depth")):
        there = {k: v.to(device) if torch.is_tensor(v) else v for k, v in scene.items()}
        out, grads = gradients(there, None, torch.float32, wanted, outputs)
        out, grads = type(out)(*(v.cpu() for v in out)), {k: v.cpu() for k, v in grads.items()}
        ref, exact = gradients(scene, "reference", torch.float64, wanted, outputs)
        check(out, ref)
        for name in wanted:
            assert relative(grads[name], exact[name]) <= 1e-3, name  # worst seen 1e-4
        return out, grads

    return run


def check(out, ref):
    assert (out.image - ref.image).abs().max() <= 1e-4  # worst seen 1.5e-5
    assert (out.alpha - ref.alpha).abs().max() <= 1e-4
    assert (out.depth - ref.depth).abs().max() <= 1e-3
    assert (out.radii - ref.radii).abs().max() <= 1


@pytest.mark.parametrize(
    ("count", "size", "channels", "degree"),
    [(1, (16, 16), 3, 0), (40, (19, 37), 3, 3), (120, (33, 48), 3, 1), (60, (17, 31), 6, 2),
     (30, (8, 9), 1, None), (50, (21, 16), 6, None)],
)  # fmt: skip
def test_kernels_match_the_reference(compare, make_scene, count, size, channels, degree):
    scene = make_scene(count, size, channels, degree, seed=count)
    compare(scene)


def test_pose_gradient_alone_matches(compare, make_scene):
    scene = make_scene(80, (32, 40), degree=3, seed=5)
    compare(scene, wanted=("viewmat",), outputs=("image",))


def with_cameras(scene, count):
    """The scene seen by `count` cameras that differ a little."""
    g = torch.Generator().manual_seed(count)
    shift = torch.zeros(count, 4, 4, dtype=torch.float64)
    shift[:, :3, 3] = 0.1 * torch.randn(count, 3, generator=g, dtype=torch.float64)
    scene = dict(scene, viewmat=scene["viewmat"] + shift.float().double())
    scene["offset"] = scene["offset"].expand(count, -1, -1).clone()
    return scene


@pytest.mark.parametrize("wanted", [ALL, ("viewmat",)])
def test_a_batch_of_cameras_matches(compare, make_scene, wanted):
    scene = with_cameras(make_scene(40, (20, 24), degree=2, seed=11), 3)
    compare(scene, wanted=wanted)


def test_tiles_without_a_list_search_the_scene(compare, make_scene, monkeypatch):
    scene = make_scene(700, (20, 20), degree=0, seed=3, opacity=(0.01, 0.1))
    compare(scene)
    monkeypatch.setattr(cuda, "_memory_limit", lambda device: 900)  # room for one tile's list
    compare(scene)


def test_masks_beside_the_lists_match(compare, make_scene, monkeypatch):
    """As where there are too many Gaussians for an entry to hold both."""
    monkeypatch.setattr(cuda, "_ops", lambda: None)
    monkeypatch.setattr(cuda, "MAX_PACKED", 50)
    compare(make_scene(80, (33, 40), degree=1, seed=4))


def test_tiles_in_image_order_match(compare, make_scene, monkeypatch):
    """As where there are too many tiles to order."""
    monkeypatch.setattr(cuda, "_ops", lambda: None)
    monkeypatch.setattr(cuda, "MAX_ORDERED", 3)
    compare(make_scene(80, (33, 40), degree=1, seed=4))


def test_lists_longer_than_shared_memory_match(compare, make_scene):
    scene = make_scene(4500, (16, 16), degree=None, seed=4, opacity=(0.005, 0.02))
    compare(scene)


def test_splats_that_cover_many_tiles_match(compare, make_scene):
    scene = make_scene(12, (100, 90), degree=1, seed=8, scale=0.9)
    compare(scene)


def test_gaussians_behind_the_camera_or_transparent_are_left_out(compare, make_scene):
    scene = make_scene(60, (24, 24), degree=1, seed=9, distance=0.3)
    scene["opacities"][::3] = 0.003
    out, grads = compare(scene)
    hidden = out.radii == 0
    assert 0 < int(hidden.sum()) < 60
    assert all(not grads[k][hidden].any() for k in ALL[:5])


def test_no_gaussians_show_the_background(device, make_scene, gradients):
    scene = make_scene(0, (9, 20), degree=1)
    scene = {k: v.to(device) if torch.is_tensor(v) else v for k, v in scene.items()}
    out, grads = gradients(scene, None, torch.float32)
    assert torch.equal(out.image, scene["background"].float()[:, None, None].expand(3, 9, 20))
    assert not out.alpha.any() and not grads["viewmat"].any()
    assert grads["background"].abs().min() > 0


def test_more_than_eight_channels_match(compare, make_scene):
    compare(make_scene(30, (16, 20), 10, 1, seed=2))


def test_deterministic_gradients_match_and_repeat(compare, make_scene):
    scene = make_scene(60, (24, 40), degree=1, seed=6)
    torch.use_deterministic_algorithms(True)
    try:
        _, first = compare(scene)
        _, second = compare(scene)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("channels", [3, 11])
def test_a_second_backward_pass_renders_again(device, make_scene, relative, channels):
    scene = make_scene(40, (24, 31), channels, degree=3)
    there = {k: v.to(device).float() if torch.is_tensor(v) else v for k, v in scene.items()}
    leaves = [there[k].requires_grad_() for k in ("means", "features", "viewmat")]
    gaussians = [there[k] for k in ("means", "quats", "scales", "opacities")]
    out = ops.rasterize(
        *gaussians, sh=there["features"], viewmat=there["viewmat"],
        intrinsics=there["intrinsics"], size=there["size"],
    )  # fmt: skip
    total = (out.image.square()).sum()
    frames = getattr(out.image.grad_fn, "frames", ())  # autograd in C++ doesn't show them
    assert all(frame.memory is not None for frame in frames)
    first = torch.autograd.grad(total, leaves, retain_graph=True)
    assert all(frame.memory is None for frame in frames)  # freed to make room for the gradients
    again = torch.autograd.grad(total, leaves)
    for a, b in zip(first, again, strict=True):
        assert relative(a, b) <= 1e-4  # sums in another order


def test_gradients_of_gradients_are_refused(device, make_scene):
    scene = make_scene(20, (12, 15), degree=1)
    there = {k: v.to(device).float() if torch.is_tensor(v) else v for k, v in scene.items()}
    means, viewmat = (there[k].requires_grad_() for k in ("means", "viewmat"))
    gaussians = [there[k] for k in ("quats", "scales", "opacities")]
    out = ops.rasterize(
        means, *gaussians, sh=there["features"], viewmat=viewmat,
        intrinsics=there["intrinsics"], size=there["size"],
    )  # fmt: skip
    total = out.image.square().sum() + out.depth.sum()
    found = torch.autograd.grad(total, (means, viewmat), create_graph=True)
    plain = torch.autograd.grad(total, (means, viewmat), retain_graph=True)
    for a, b in zip(found, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
    with pytest.raises(RuntimeError, match="differentia"):
        found[0].sum().backward()


class QuickRoom:
    """The same rule in C++, with `Capacities`' interface."""

    def __init__(self):
        self.slots = torch.zeros(room.NUM_SLOTS, dtype=torch.int64)
        ops_of = cuda._ops()
        if ops_of is None:
            pytest.skip("no C++ autograd here")
        ops_of.add_device(63, [self.slots.data_ptr(), room.NUM_SLOTS, 3, 4])
        self.room = ops_of.room

    def choose(self, shape, splats, limit):
        return self.room(63, *shape, splats, limit)


@pytest.mark.parametrize("make", [room.Capacities, QuickRoom])
def test_room_for_lists_follows_what_the_device_reported(make):
    capacities = make()
    first, address = capacities.choose((1, 8, 8), 1000, 1 << 30)
    assert first >= room.FIRST_ENTRIES
    ctypes.c_int64.from_address(address).value = 50_000  # as the device does
    assert 65_000 <= capacities.choose((1, 8, 8), 1000, 1 << 30)[0] <= 75_000
    assert capacities.choose((1, 8, 8), 2000, 1 << 30)[0] >= 130_000
    assert capacities.choose((1, 8, 8), 2000, 777)[0] == 777
    other, place = capacities.choose((2, 8, 8), 1000, 1 << 30)
    assert other == first and place != address


def as_given(scene, device):
    """Positional and keyword arguments of `rasterize` for a scene of make_scene, float32."""
    there = {k: v.to(device).float() if torch.is_tensor(v) else v for k, v in scene.items()}
    given = {k: there[k] for k in ("viewmat", "intrinsics", "size", "background")}
    given |= {"sh": there["features"], "means2d_offset": there["offset"]}
    return [there[k] for k in ALL[:4]], given


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("quats", torch.ones(20, 3), ValueError, "quats must have shape"),
        ("quats", [[1.0, 0, 0, 0]], TypeError, "quats must be a tensor"),
        ("opacities", torch.ones(20).double(), TypeError, "opacities is torch.float64"),
        ("sh", torch.ones(20, 5, 3), ValueError, "1, 4, 9 or 16 coefficients"),
        ("viewmat", torch.eye(3), ValueError, "viewmat must have shape"),
        ("intrinsics", torch.eye(3).repeat(2, 1, 1), ValueError, "intrinsics must have shape"),
        ("background", torch.ones(4), ValueError, "background must have shape"),
        ("means2d_offset", torch.ones(19, 2), ValueError, "means2d_offset must have shape"),
        ("size", (0, 4), ValueError, "at least 1x1"),
        ("sh_degree", 2, ValueError, "sh_degree must lie in"),
        ("intrinsics", torch.eye(3).requires_grad_(), ValueError, "no gradient for the intrinsics"),
    ],
)
def test_wrong_inputs_are_named_after_right_ones(device, make_scene, name, value, error, text):
    gaussians, given = as_given(make_scene(20, (12, 15), degree=1), device)
    ops.rasterize(*gaussians, **given)
    value = value.to(device) if torch.is_tensor(value) else value
    if name in ALL[:4]:
        gaussians[ALL.index(name)] = value
    else:
        given[name] = value
    with pytest.raises(error, match=text):
        ops.rasterize(*gaussians, **given)


def test_views_of_other_memory_render_alike(device, make_scene):
    """Strided, misaligned and shared inputs, and sizes that aren't a tuple of ints."""
    gaussians, given = as_given(make_scene(20, (12, 15), degree=1), device)
    exact = ops.rasterize(*gaussians, **given)
    strided = [torch.stack([t, t], -1)[..., 0] for t in gaussians]
    room = given["sh"].new_zeros(given["sh"].numel() + 1)
    misaligned = room[1:].view_as(given["sh"]).copy_(given["sh"])
    found = ops.rasterize(*strided, **given | {"sh": misaligned, "size": [12.0, 15]})
    assert all(torch.equal(a, b) for a, b in zip(exact, found, strict=True))
    many = given | {"viewmat": given["viewmat"].expand(3, 4, 4), "size": (12, 15)}
    for b, camera in enumerate(zip(*ops.rasterize(*strided, **many), strict=True)):
        assert all(torch.equal(a, c) for a, c in zip(exact, camera, strict=True)), b


def test_outputs_can_be_changed_in_place_and_outlive_each_other(device, make_scene):
    gaussians, given = as_given(make_scene(20, (12, 15), degree=1), device)
    given["viewmat"].requires_grad_()
    out = ops.rasterize(*gaussians, **given)
    alpha, radii = out.alpha.detach().clone(), out.radii.clone()
    out.image.detach().zero_(), out.depth.detach().zero_()
    assert torch.equal(out.alpha, alpha) and torch.equal(out.radii, radii)
    with torch.no_grad():
        plain = ops.rasterize(*gaussians, **given)
    assert not plain.image.requires_grad and torch.equal(plain.alpha, alpha)
    (2 * ops.rasterize(*gaussians, **given).alpha).clamp_(max=1.5).sum().backward()
    assert given["viewmat"].grad.abs().max() > 0
