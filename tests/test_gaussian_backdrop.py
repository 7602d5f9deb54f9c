"""Background colour, silhouettes, the visual hull and the starting points."""

import pytest
import torch

from gaussian_renderer.backdrop import (
    Silhouettes,
    carve,
    certain_foreground,
    dilated,
    estimate_backdrop,
    silhouette,
)
from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import SH_C0
from gaussian_renderer.points import PointCloud
from gaussian_renderer.seeding import (
    colours_from_views,
    common_view_box,
    initial_model,
    neighbour_distance,
    points_in_common_view,
    points_on_hull,
    scene_extent,
    view_centre,
)
from tests.gaussian_scene import ring_of_cameras

RADIUS = 0.8
BACKDROP = torch.tensor([0.8, 0.9, 0.7])
INSIDE = torch.tensor([0.2, 0.3, 0.6])


def photo_of_a_sphere(camera):
    """A flat-coloured sphere of radius 0.8 at the origin, ray by ray."""
    k = camera.intrinsics
    y, x = torch.meshgrid(torch.arange(k.height), torch.arange(k.width), indexing="ij")
    rays = torch.stack([(x + 0.5 - k.cx) / k.fx, (y + 0.5 - k.cy) / k.fy, torch.ones_like(x)], -1)
    centre = camera.world_to_camera[:3, 3].float()
    closest = centre - (rays @ centre / rays.square().sum(-1))[..., None] * rays
    hit = closest.norm(dim=-1) < RADIUS
    return torch.where(hit, INSIDE[:, None, None], BACKDROP[:, None, None])


@pytest.fixture(scope="module")
def sphere():
    cameras = ring_of_cameras(16, size=100)
    images = [photo_of_a_sphere(camera) for camera in cameras]
    backdrop = estimate_backdrop(images)
    return (
        cameras,
        images,
        backdrop,
        carve(Silhouettes.read(cameras, images, backdrop), common_view_box(cameras)),
    )


def test_background_is_found_though_the_object_leaves_the_frame_in_some_views(sphere):
    _, images, _, _ = sphere
    images = [image.clone() for image in images]
    for image in images[:4]:
        image[:, :, :60] = 0.1
    images[5] += 0.02 * torch.randn(images[5].shape, generator=torch.Generator().manual_seed(0))
    backdrop = estimate_backdrop(images)
    torch.testing.assert_close(backdrop.colour, BACKDROP)
    assert backdrop.plain
    torch.testing.assert_close(backdrop.per_image[0], BACKDROP)


def test_textured_surroundings_are_not_plain():
    g = torch.Generator().manual_seed(0)
    assert not estimate_backdrop([torch.rand(3, 40, 40, generator=g) for _ in range(5)]).plain
    different = [torch.full((3, 40, 40), v) for v in (0.0, 0.3, 0.6, 0.9)]
    assert not estimate_backdrop(different).plain


def test_silhouette_ignores_specks_and_small_highlights(sphere):
    cameras, images, _, _ = sphere
    image = images[0].clone()
    assert sphere[2].tolerance == pytest.approx(0.02)
    clean = silhouette(image, BACKDROP)
    assert torch.equal(clean, images[0][0] < 0.5)
    image[:, 50, 50] = BACKDROP  # a highlight as bright as the backdrop
    image[:, 3, 3] = 0  # dust
    assert torch.equal(silhouette(image, BACKDROP), clean)
    sure = certain_foreground(image, cameras[0], BACKDROP)
    image[:, 40:52, 40:52] = BACKDROP[:, None, None]  # a hole of the object
    assert not silhouette(image, BACKDROP)[45, 45]
    assert not sure[50, 50] and not sure[3, 3] and sure[60, 45]
    assert not (sure & ~clean).any()


def test_thin_parts_stay_and_specks_go():
    image = BACKDROP[:, None, None].expand(-1, 60, 60).clone()
    image[:, 10:50, 30] = 0.1  # wires of a pixel, one of them slanting
    image[:, range(10, 50), range(10, 50)] = 0.1
    wires = (image - BACKDROP[:, None, None]).abs().amax(0) > 0.1
    assert torch.equal(silhouette(image, BACKDROP), wires)
    image[:, 5, 50:55] = 0.1  # dust
    assert torch.equal(silhouette(image, BACKDROP), wires)
    image[:, 52:56, 10:14] = 0.1  # a part of its own
    assert silhouette(image, BACKDROP)[52:56, 10:14].all()


def test_a_thin_part_of_a_stout_object_stays_and_ringing_about_it_goes():
    image = BACKDROP[:, None, None].expand(-1, 60, 60).clone()
    image[:, 30:55, 10:50] = 0.1
    image[:, 15:30, 30] = 0.1  # a stalk of a pixel, a fortieth of the object
    image[:, 8:15, 26:34] = 0.1
    shape = (image - BACKDROP[:, None, None]).abs().amax(0) > 0.1
    assert torch.equal(silhouette(image, BACKDROP), shape)
    image[:, 32:50, 8] -= 0.05  # what JPEG leaves beside an edge
    assert torch.equal(silhouette(image, BACKDROP, 0.02), shape)


def test_hull_of_a_sphere_is_the_sphere(sphere):
    _, _, _, hull = sphere
    distance = hull.xyz.norm(dim=1)
    # sixteen views on a wavy ring leave corners, never less than the sphere
    assert distance.max() < RADIUS * 1.25
    volume = len(hull.xyz) * hull.voxel**3 / (4 / 3 * torch.pi * RADIUS**3)
    assert 0.95 < volume < 1.35
    outward = torch.nn.functional.normalize(hull.xyz[hull.surface], dim=1)
    cosine = (outward * hull.normals[hull.surface]).sum(1)
    assert cosine.mean() > 0.9


def test_nothing_is_carved_from_photos_without_object(sphere):
    cameras, images, backdrop, _ = sphere
    box = common_view_box(cameras)
    empty = [BACKDROP[:, None, None].expand(3, 100, 100)] * len(cameras)
    assert carve(Silhouettes.read(cameras, empty, backdrop), box) is None
    full = [INSIDE[:, None, None].expand(3, 100, 100)] * len(cameras)
    assert carve(Silhouettes.read(cameras, full, backdrop), box) is None


def test_points_on_the_hull_lie_on_the_sphere_and_take_its_colour(sphere):
    cameras, images, _, hull = sphere
    points, normals = points_on_hull(hull, 500, torch.Generator().manual_seed(0))
    assert points.shape == normals.shape == (500, 3)
    assert (points.norm(dim=1) - RADIUS).abs().median() < 2 * hull.voxel
    colours = colours_from_views(points, cameras, images, normals)
    assert (colours.median(0).values - INSIDE).abs().max() < 0.05
    many, _ = points_on_hull(hull, 10**6, torch.Generator().manual_seed(0))
    assert len(many) == 4 * int(hull.surface.sum())


def test_views_centre_and_extent_by_hand():
    cameras = ring_of_cameras(12, radius=4.0)
    assert view_centre(cameras).norm() < 1e-5
    assert 4.0 < scene_extent(cameras) < 4.6
    box = common_view_box(cameras)
    # half the field of view at the centre: 4 tan(0.35)
    torch.testing.assert_close(box[1], torch.full((3,), 4 * 0.36503), rtol=1e-3, atol=1e-3)


def test_cameras_that_stand_together_still_give_an_extent():
    camera = Camera(Intrinsics.from_fov_x(0.7, 40, 30), torch.eye(4))
    assert view_centre([camera, camera]).tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert scene_extent([camera]) == pytest.approx(1, rel=1e-6)


def test_random_points_are_seen_by_most_cameras():
    cameras = ring_of_cameras(12)
    points = points_in_common_view(cameras, 300, torch.Generator().manual_seed(0))
    assert points.shape == (300, 3)
    assert points.norm(dim=1).max() < 2.2


def test_neighbour_distance_on_a_line_by_hand():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [6, 0, 0]])
    wanted = [((1 + 9 + 36) / 3) ** 0.5, ((1 + 4 + 25) / 3) ** 0.5]
    assert neighbour_distance(points)[:2].tolist() == pytest.approx(wanted)
    assert neighbour_distance(points[:1]).tolist() == [1.0]


def test_model_starts_from_the_point_cloud_when_there_is_one(sphere):
    cameras, images, backdrop, _ = sphere
    cloud = PointCloud(torch.randn(20, 3), torch.rand(20, 3))
    options = {"count": 50, "sh_degree": 1, "opacity": 0.2, "seed": 0}
    shapes = Silhouettes.read(cameras, images, backdrop)
    model = initial_model(cameras, images, BACKDROP, cloud=cloud, silhouettes=None, **options)
    torch.testing.assert_close(model.means, cloud.xyz)
    torch.testing.assert_close(0.5 + SH_C0 * model.sh[:, 0], cloud.rgb)
    assert model.opacities.tolist() == pytest.approx([0.2] * 20)
    six = [torch.cat([image, 1 - image]) for image in images]
    background = BACKDROP.repeat(2)
    model = initial_model(cameras, six, background, cloud=cloud, silhouettes=shapes, **options)
    assert model.num_channels == 6
    random = initial_model(cameras, images, BACKDROP, cloud=None, silhouettes=None, **options)
    assert random.num_gaussians == 50


@pytest.mark.parametrize(("shape", "radius"), [((9, 14), 1), ((3, 5, 8), 2), ((2, 3), 4)])
def test_dilation_is_the_maximum_over_squares(shape, radius):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(radius))
    planes = mask.reshape(-1, 1, *shape[-2:])
    pooled = torch.nn.functional.max_pool2d(planes, 2 * radius + 1, 1, radius).reshape(shape)
    assert torch.equal(dilated(mask, radius), pooled)
    assert torch.equal(dilated(mask, 0), mask)
