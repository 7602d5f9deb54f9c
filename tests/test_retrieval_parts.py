"""The parts of the start pose: warps, views between, lifting and PnP, comparison, cache."""

import math

import pytest
import torch

from EfficientLoFTR import Matches
from gaussian_renderer.area import area_average
from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.render import render
from gaussian_renderer.se3 import pose_error, se3_exp
from retrieval.align import STEP_LIMIT, Aligner, Windows, eliminated, flattest, moved, solved
from retrieval.cache import cached_features, signature_of
from retrieval.compare import FLAT_VARIANCE, likeness, opponent, similarity
from retrieval.original import better_half, shrink
from retrieval.pnp import lift, pose_from_matches, solve_pnp
from retrieval.replay import padded, padded_size
from retrieval.search import distinct_rows
from retrieval.shortlist import Shortlist
from retrieval.small_models import small_models
from retrieval.views import between, object_centre, views_between
from retrieval.warp import fitted, homography, map_points, roll, warp, warp_each
from tests.gaussian_scene import look_at
from tests.retrieval_scene import orbit, patchwork, query_camera, relit, shoot


def project(points, camera):
    moved = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    k = camera.intrinsics
    return torch.stack([moved[:, 0] / moved[:, 2] * k.fx + k.cx,
                        moved[:, 1] / moved[:, 2] * k.fy + k.cy], 1), moved[:, 2]  # fmt: skip


# warps


def test_rolled_camera_sees_the_warped_image():
    model, camera = patchwork(600), query_camera(0.4)
    image, _ = shoot(model, camera)
    angle = math.radians(37)
    rolled = camera.with_pose(roll(angle) @ camera.world_to_camera)
    expected, _ = shoot(model, rolled)
    k = camera.intrinsics
    ours = warp(image, homography(k, k, angle), k.height, k.width)
    assert (ours - expected).abs().mean() < 0.01  # resampling blurs edges; unturned: 0.09
    assert (image - expected).abs().mean() > 0.03


def test_points_go_where_the_camera_says():
    source = Intrinsics(100, 110, 40, 30, 90, 60)
    target = Intrinsics(210, 190, 65, 55, 120, 110)
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double()
    points[:, 2] = points[:, 2].abs() + 2
    a = Camera(source, torch.eye(4))
    b = Camera(target, roll(0.7))
    mapped = map_points(homography(source, target, 0.7), project(points, a)[0])
    torch.testing.assert_close(mapped, project(points, b)[0], rtol=1e-9, atol=1e-9)


def test_identity_warp_changes_nothing_and_shrinking_averages():
    image = torch.rand(3, 20, 30)
    torch.testing.assert_close(warp(image, torch.eye(3).double(), 20, 30), image)
    stripes = torch.zeros(3, 64, 64)
    stripes[:, :, ::2] = 1
    small = warp(stripes, torch.diag(torch.tensor([0.25, 0.25, 1.0])).double(), 16, 16)
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.02, rtol=0)


def test_images_warped_together_are_those_warped_alone():
    images = torch.rand(2, 3, 40, 30, generator=torch.Generator().manual_seed(1))
    source = Intrinsics(50, 50, 14, 21, 30, 40)
    targets = [Intrinsics(f, f, 6, 6, 12, 11) for f in (12, 40, 60)]
    matrices = torch.stack([homography(source, k, 0.3 * i) for i, k in enumerate(targets)])
    together = warp_each(images, matrices.repeat(2, 1, 1), 11, 12).unflatten(0, (2, 3))
    for image, views in zip(images, together, strict=True):
        for matrix, view in zip(matrices, views, strict=True):
            torch.testing.assert_close(view, warp(image, matrix, 11, 12), atol=1e-5, rtol=0)


def test_fitted_keeps_the_aspect_and_the_field_of_view():
    k = fitted(Intrinsics(500, 500, 400, 300, 800, 600), 200)
    assert (k.width, k.height, k.fx) == (200, 150, 125)


# views


def test_centre_of_an_orbit_is_what_it_looks_at():
    cameras = [Camera(Intrinsics.from_fov_x(0.7, 64, 64), look_at(p, (0.2, -0.1, 0.3)))
               for p in ((3, 0, 0.5), (0, 3, 0.7), (-3, 0.3, 1), (0.2, -3, -1))]  # fmt: skip
    centre = object_centre(cameras)
    torch.testing.assert_close(centre, torch.tensor([0.2, -0.1, 0.3]).double())


def test_view_between_is_half_way_at_the_same_distance():
    a, b = orbit(12)[0], orbit(12)[1]
    middle = between(a, b, torch.zeros(3, dtype=torch.float64))
    to_a, to_b = (pose_error(middle.world_to_camera, c.world_to_camera)[0] for c in (a, b))
    assert to_a == pytest.approx(to_b, abs=1e-6)
    assert to_a + to_b == pytest.approx(
        pose_error(a.world_to_camera, b.world_to_camera)[0], abs=1e-6
    )
    assert middle.position.norm().item() == pytest.approx(a.position.norm().item(), rel=1e-6)


def test_views_between_fill_the_widest_gaps_first():
    cameras = orbit(12)
    del cameras[4]  # a hole in the orbit
    hole = orbit(12)[4].position
    first = views_between(cameras, 60)[0].position
    spacing = (orbit(12)[4].position - orbit(12)[3].position).norm()
    assert (first - hole).norm() < 1.5 * spacing
    assert len(views_between(cameras, 5)) == 5
    assert views_between(cameras, 0) == [] and views_between(cameras[:1], 5) == []


def test_opposite_cameras_have_no_view_between():
    k = Intrinsics.from_fov_x(0.7, 64, 64)
    cameras = [Camera(k, look_at((3, 0, 0.1))), Camera(k, look_at((-3, 0, 0.1)))]
    assert views_between(cameras, 5) == []


# lifting and PnP


def test_lifted_points_lie_on_the_rendered_surface():
    model, camera = patchwork(), orbit()[0]
    drawn = render(model, camera)
    pixels = torch.tensor([[64.5, 64.5], [50.5, 70.5], [2.5, 2.5]])
    points, valid = lift(pixels, drawn.depth, drawn.alpha, camera)
    assert valid.tolist() == [True, True, False]
    back, depth = project(points[:2], camera)
    torch.testing.assert_close(back, pixels[:2].double())
    radius = (points[:2] / torch.tensor([0.9, 0.6, 0.7])).norm(dim=1)
    assert ((radius - 1).abs() < 0.08).all()
    assert (depth < camera.position.norm()).all()  # the near side


def test_pnp_recovers_the_pose_with_a_third_of_wrong_matches():
    g = torch.Generator().manual_seed(2)
    camera = query_camera(1.0)
    points = torch.rand(90, 3, generator=g).double() - 0.5
    pixels, _ = project(points, camera)
    pixels[:30] = 128 * torch.rand(30, 2, generator=g).double()
    result = solve_pnp(pixels, points, camera.intrinsics)
    angle, distance = pose_error(result.world_to_camera, camera.world_to_camera)
    assert angle < 1e-3 and distance < 1e-3
    assert 60 <= result.num_inliers <= 66 and result.num_points == 90


def test_pnp_with_too_few_points_is_none():
    camera = query_camera(1.0)
    assert solve_pnp(torch.rand(5, 2), torch.rand(5, 3), camera.intrinsics) is None
    depth = torch.zeros(1, 128, 128)
    matches = Matches(torch.rand(50, 2), torch.rand(50, 2), torch.ones(50))
    assert pose_from_matches(matches, camera, depth, depth, camera.intrinsics) is None


def test_pose_from_matches_uses_the_querys_own_pinhole():
    model, view = patchwork(), orbit()[0]
    drawn = render(model, view)
    wide = Intrinsics(90.0, 95.0, 70.0, 60.0, 140, 120)
    query = query_camera(0.15, intrinsics=wide)
    y, x = torch.meshgrid(torch.arange(40, 90, 5), torch.arange(40, 90, 5), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2) + 0.5
    points, valid = lift(pixels, drawn.depth, drawn.alpha, view)
    seen, _ = project(points, query)
    matches = Matches(seen.float(), pixels.float(), torch.ones(len(seen)))
    result = pose_from_matches(matches, view, drawn.depth, drawn.alpha, wide)
    angle, distance = pose_error(result.world_to_camera, query.world_to_camera)
    assert angle < 0.05 and distance < 0.01
    assert result.num_points == int(valid.sum())


# comparison


def test_likeness_ignores_light_and_counts_the_silhouette():
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(2, 3, 12, 12, generator=generator)
    query, other = torch.nn.functional.interpolate(small, (150, 200), mode="bicubic").clamp(0, 1)
    assert likeness(query, query) > 0.9
    assert likeness(query, 0.6 * query + 0.1) > 0.9
    assert likeness(query, other) < 0.5
    shape = torch.zeros(1, 150, 200)
    shape[:, 40:110, 50:150] = 1
    same = likeness(query, query, shape, shape)
    assert same > likeness(query, query, shape, shape.roll(30, -1)) + 0.1


def test_similarity_ignores_light_and_sees_other_content():
    image, _ = shoot(patchwork(), query_camera(0.4))
    other, _ = shoot(patchwork(), query_camera(3.0))
    a, b = opponent(image[None]), opponent(other[None])
    fall = torch.linspace(1.0, 0.6, image.shape[2])
    assert similarity(a, a).item() > 0.9
    assert similarity(a, opponent((image * fall * 0.8 + 0.05)[None])).item() > 0.85
    assert similarity(a, b).item() < 0.4
    assert similarity(a, 1 - a).item() < -0.8


def test_a_silhouette_counts_as_much_as_three_channels():
    generator = torch.Generator().manual_seed(7)
    a, b = torch.rand(2, 1, 3, 40, 40, generator=generator)
    shapes = torch.rand(2, 1, 1, 40, 40, generator=generator).round()
    shapes[1, ..., :20] = shapes[0, ..., :20]
    known = [torch.cat([x, shape], 1) for x, shape in zip((a, b), shapes, strict=True)]
    thrice = [torch.cat([x, *[shape] * 3], 1) for x, shape in zip((a, b), shapes, strict=True)]
    torch.testing.assert_close(similarity(*known), similarity(*thrice))
    assert similarity(*known) > similarity(a, b) + 0.1


@pytest.mark.parametrize("size", [(12, 20), (24, 20), (8, 10), (7, 20), (24, 40)])
def test_area_averages_are_those_of_torch(size):
    images = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(8))
    wanted = torch.nn.functional.interpolate(images, size, mode="area")
    torch.testing.assert_close(area_average(images, size), wanted)


def test_only_pixels_inside_are_looked_at():
    generator = torch.Generator().manual_seed(6)
    a, b = torch.rand(2, 1, 3, 60, 60, generator=generator)
    left = torch.zeros(1, 1, 60, 60)
    left[..., :30] = 1
    mixed = torch.where(left > 0, a, b)  # equal to `a` on the left, unrelated on the right
    assert similarity(a, mixed, inside=left).item() == pytest.approx(1, abs=1e-4)
    assert similarity(a, mixed, inside=1 - left).item() < 0.1
    assert 0.3 < similarity(a, mixed).item() < 0.7
    assert similarity(a, mixed, inside=torch.zeros_like(left)).item() == 0
    everywhere = similarity(a, b, inside=torch.ones_like(left))
    torch.testing.assert_close(everywhere, similarity(a, b))


def test_opponent_treats_each_triple_alike():
    images = torch.rand(2, 6, 5, 4)
    torch.testing.assert_close(opponent(images)[:, 3:], opponent(images[:, 3:]))
    grey = torch.full((1, 3, 2, 2), 0.3)
    torch.testing.assert_close(opponent(grey)[0, :, 0, 0], torch.tensor([0.3, 0, 0]))


# alignment


def aligner_at(model, camera, size, light=lambda image: image, silhouette=False):
    """An aligner of the query that a camera takes, at `size` px."""
    photograph, reflectance = shoot(model, camera)
    query = torch.cat([light(photograph), reflectance])[None]
    query = torch.nn.functional.interpolate(query, (size, size), mode="area")[0]
    small = camera.resized(size, size).intrinsics
    shape = render(model, camera.resized(size, size)).alpha if silhouette else None
    shapes = None if shape is None else shape[None]
    return Aligner(query[None], shapes, small, model, torch.zeros(3, dtype=torch.float64))


def test_window_means_are_pooling_and_their_spread_is_the_adjoint():
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(2, 3, 24, 33, generator=generator)
    windows = Windows(24, 33)
    expected = torch.nn.functional.avg_pool2d(image, 9, stride=3)
    torch.testing.assert_close(windows.mean(image), expected)
    values = torch.rand(expected.shape, generator=generator)
    torch.testing.assert_close(
        (windows.mean(image) * values).sum(), (image * windows.spread(values)).sum()
    )
    assert Windows(20, 25).mean(torch.ones(1, 20, 25)).shape == (1, 5, 7)  # the border is covered


@pytest.mark.parametrize("silhouette", [False, True])
@pytest.mark.parametrize("light", [lambda image: image, relit])
def test_alignment_comes_back_to_the_true_pose(light, silhouette):
    model, camera = patchwork(), query_camera(0.4)
    twist = torch.tensor([0.05, -0.04, 0.15, 0.02, 0.03, -0.02]).double()
    start = se3_exp(twist) @ camera.world_to_camera
    aligner = aligner_at(model, camera, 64, light, silhouette)
    before, (poses, values) = aligner.align(start[None], 0)[1], aligner.align(start[None], 10)
    assert pose_error(start, camera.world_to_camera)[0] > 2
    after = pose_error(poses[0], camera.world_to_camera)
    assert after[0] < 0.8 and after[1] < 0.1
    assert values[0] > before[0] and values[0] > 0.8
    torch.testing.assert_close(aligner.align(poses, 0)[1], values)


def test_queries_aligned_together_end_where_each_ends_alone():
    model, cameras = patchwork(), [query_camera(0.4), query_camera(2.0)]
    alone = [aligner_at(model, camera, 48, silhouette=True) for camera in cameras]
    both = Aligner(
        torch.cat([one.queries for one in alone]),
        torch.cat([one.silhouettes for one in alone]),
        alone[0].intrinsics,
        model,
        alone[0].centre,
    )
    twist = torch.tensor([0.05, -0.04, 0.15, 0.02, 0.03, -0.02]).double()
    owners = torch.tensor([1, 0, 1])
    starts = torch.stack([se3_exp(twist * (1 + i)) @ cameras[o].world_to_camera
                          for i, o in enumerate(owners)])  # fmt: skip
    for everything in (False, True):  # as on a GPU, where no step waits for what is better
        together = both.of(owners)
        together.waits_for_nothing = everything
        poses, values = together.align(starts, 4)
        for i, owner in enumerate(owners.tolist()):
            pose, value = alone[owner].align(starts[i : i + 1], 4)
            torch.testing.assert_close(poses[i], pose[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(values[i], value[0], atol=1e-5, rtol=0)


def test_a_step_moves_as_the_exponential_does():
    generator = torch.Generator().manual_seed(5)
    twists = 2 * STEP_LIMIT * (torch.rand(20, 6, generator=generator).double() - 0.5)
    twists[:, :3] *= 30  # world units are any
    twists[0, 3:] = 0
    poses = torch.stack([camera.world_to_camera for camera in orbit(20)])
    torch.testing.assert_close(moved(poses, twists), se3_exp(twists) @ poses, rtol=0, atol=1e-13)


def test_elimination_solves_as_the_library_does():
    roots = torch.randn(5, 6, 9, generator=torch.Generator().manual_seed(4)).double()
    matrices = roots @ roots.mT + 1e-3 * torch.eye(6)
    vectors = roots[..., 0]
    expected = solved(matrices, vectors)
    torch.testing.assert_close(eliminated(matrices, vectors), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((matrices @ expected[..., None])[..., 0], vectors)


def test_the_step_follows_the_gradient_of_the_squared_correlations():
    model, camera = patchwork(600), query_camera(0.4)
    aligner = aligner_at(model, camera, 48, relit)
    pose = se3_exp(torch.tensor([0.1, 0, 0, 0, 0.03, 0.05]).double()) @ camera.world_to_camera

    # by autograd through the rasterizer
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    viewmat = (se3_exp(twist) @ pose).float()
    drawn = render(model, Camera(aligner.intrinsics, pose), viewmat=viewmat)
    mean, known = aligner.windows.mean, aligner.known
    variance = mean(drawn.image[None] ** 2) - mean(drawn.image[None]) ** 2
    covariance = mean(drawn.image[None] * known.image) - mean(drawn.image[None]) * known.mean
    scale = (variance + FLAT_VARIANCE) * (known.variance + FLAT_VARIANCE)
    cost = -0.5 * (covariance.clamp_min(0) ** 2 / scale).sum()
    cost.backward()

    hessian, gradient = aligner._system(pose[None], aligner._look(pose[None])[1])
    largest = float(twist.grad.abs().max())
    torch.testing.assert_close(gradient[0], twist.grad, atol=1e-3 * largest, rtol=0)
    assert (torch.linalg.eigvalsh(hessian[0]) > 0).all()


def test_the_flattest_direction_of_a_plain_solid_of_revolution_is_about_its_axis():
    model = patchwork(5000, radii=(0.6, 0.6, 0.9))
    plain = model.with_sh(torch.full_like(model.sh, 0.3), model.background)
    camera = query_camera(0.4, height=1.5)
    aligner = aligner_at(plain, camera, 64, silhouette=True)
    twist = flattest(*aligner.curvature(camera.world_to_camera[None]))[0]
    axis = camera.world_to_camera[:3, 2]  # the object's z, as the camera sees it
    turn = torch.nn.functional.normalize(twist[3:], dim=0)
    assert abs(float(turn @ axis)) > 0.95


def test_small_models_look_like_photographs_averaged_down(tmp_path):
    model, cameras = patchwork(), orbit(24)
    path = tmp_path / "small.safetensors"
    made = small_models(model, cameras, 64, 800, path)
    camera = query_camera(0.5)
    whole = render(model, camera).image
    for small, size in zip(made, (20, 20, 32, 64), strict=True):
        assert small.focal_px == pytest.approx(camera.intrinsics.fx * size / 128)
        wanted = torch.nn.functional.interpolate(whole[None], (size, size), mode="area")[0]
        seen = render(small.gaussians, camera.resized(size, size)).image
        fat = render(model, camera.resized(size, size)).image
        assert small.gaussians.num_gaussians <= 4000
        if size < 64:  # at half the size splats of this model are wide enough
            assert (seen - wanted).square().mean() < 0.7 * (fat - wanted).square().mean()
    again = small_models(model, cameras, 64, 800, path)
    for first, second in zip(made, again, strict=True):
        assert torch.equal(first.gaussians.means, second.gaussians.means)
    other = small_models(model, cameras, 64, 30, path)
    assert not torch.equal(other[0].gaussians.log_scales, made[0].gaussians.log_scales)


def test_small_models_of_a_thin_object_show_it():
    whole = patchwork()
    ring = whole.select(whole.means[:, 2].abs() < 0.03)  # two pixels wide at most, seen small
    made = small_models(ring, orbit(24), 64, 300, None)
    camera = query_camera(0.5)
    for small, size in zip(made, (20, 20, 32, 64), strict=True):
        photo = render(ring, camera).image[None]
        wanted = torch.nn.functional.interpolate(photo, (size, size), mode="area")[0]
        seen = render(small.gaussians, camera.resized(size, size)).image
        nothing = ring.background[:, None, None]
        assert (seen - wanted).square().mean() < 0.3 * (nothing - wanted).square().mean()


# search


def test_rotations_kept_lie_apart_and_the_first_goes_first():
    turns = torch.stack([roll(math.radians(a)) for a in (0, 3, 11, 7.9, 300, 299, 20)])
    rotations = turns[:, :3, :3].numpy()
    assert distinct_rows(rotations, 8, 9) == [0, 2, 4, 6]
    assert distinct_rows(rotations, 8, 2) == [0, 2]
    assert distinct_rows(rotations, 1, 9) == [0, 1, 2, 3, 4, 6]


def test_padded_sizes_are_few_and_the_first_row_fills_up():
    sizes = [padded_size(n) for n in range(1, 100)]
    assert all(size >= n and size <= 1.5 * n for n, size in enumerate(sizes, 1))
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert padded(torch.tensor([[5], [7]]), 4).tolist() == [[5], [7], [5], [5]]


# shortlist


def test_shortlist_names_the_view_and_the_rotation(lite2):
    model, cameras = patchwork(), orbit()
    reflectances = torch.stack([shoot(model, c)[1] for c in cameras])
    shortlist = Shortlist(lite2, cameras[0].intrinsics, 8)
    shortlist.fill(cameras, shortlist.describe(reflectances))
    rolled = cameras[5].with_pose(roll(-math.radians(90)) @ cameras[5].world_to_camera)
    seen = torch.stack([shoot(model, cameras[2])[1], shoot(model, rolled)[1]])
    upright, table = shortlist.similarities(seen, rolled.intrinsics)
    assert divmod(int(upright.argmax()), len(cameras)) == (0, 2)
    rotation, view = divmod(int(table.argmax()), len(cameras))
    assert (rotation, view) == (2, 5)
    assert table.max() > 0.8
    error = pose_error(shortlist.candidates[rotation, view], rolled.world_to_camera)
    assert error[0] < 1e-5 and error[1] < 1e-5


@pytest.fixture(scope="module")
def lite2():
    from retrieval.model.feature_net import FeatureNet

    return FeatureNet.load("lite2", say=lambda text: None)


# the paper's way


def test_better_half_is_the_nearer_half_in_l1():
    gallery = torch.stack([torch.full((3, 8, 8), v) for v in (0.1, 0.9, 0.4, 0.6, 0.5)])
    assert better_half(torch.full((3, 16, 16), 0.45), gallery) == [2, 4, 3]


def test_shrunk_images_have_at_most_a_hundred_pixels_a_side():
    assert shrink(torch.rand(2, 3, 200, 300)).shape == (2, 3, 67, 100)
    assert shrink(torch.rand(2, 3, 20, 30)).shape == (2, 3, 20, 30)


# cache


def test_features_are_computed_once_per_signature(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return [{"points": torch.ones(3, 2) * len(calls)}, {"points": torch.zeros(1, 2)}]

    path = tmp_path / "kept.safetensors"
    first = cached_features(path, "one", compute)
    again = cached_features(path, "one", compute)
    assert len(calls) == 1
    assert [f["points"].shape for f in again] == [(3, 2), (1, 2)]
    torch.testing.assert_close(first[0]["points"], again[0]["points"])
    assert cached_features(path, "two", compute)[0]["points"][0, 0] == 2
    path.write_bytes(b"broken")
    assert cached_features(path, "two", compute)[0]["points"][0, 0] == 3
    assert len(cached_features(None, "two", compute)) == 2 and len(calls) == 4


def test_signature_depends_on_every_part():
    a = torch.arange(4.0)
    assert signature_of(a, 1) == signature_of(a.clone(), 1)
    assert len({signature_of(a, 1), signature_of(a + 1e-6, 1), signature_of(a, 2)}) == 3
