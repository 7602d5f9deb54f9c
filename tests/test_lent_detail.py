"""Gallery detail for many poses at once: as one by one, and what it does for the last step."""

import math
from dataclasses import replace

import pytest
import torch

from gaussian_renderer.camera import Intrinsics
from piad.detail import GalleryDetail
from piad.lent_detail import LentDetail, lent_detail
from piad.models import ModelPair
from piad.pose import RefineConfig
from piad.target import Target
from piad.votes import settled
from tests.detail_scene import SIDE, Photo, camera_at, gallery, grey, rendered, sheet, texture

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
VIEWS = (-0.4, -0.1, 0.2, 0.5)


@pytest.fixture(scope="module")
def plane():
    return ModelPair(grey(sheet()), grey(sheet()))


def lent_at(lent, models, cameras, times=1):
    """`LentDetail.at` for cameras, of which the first few choose the photographs."""
    poses = torch.stack([camera.world_to_camera for camera in cameras])
    seen = models.render(poses.to(models.background), cameras[0].intrinsics)
    chosen = poses[: len(poses) // times]
    return lent.at(chosen, poses, cameras[0].intrinsics, seen.depth, seen.cover)


@pytest.mark.parametrize("device", DEVICES)
def test_many_poses_get_what_each_gets_alone(plane, device):
    models = ModelPair(plane.colour.to(device), plane.reflectance.to(device))
    pairs = gallery(plane, VIEWS, texture)
    lent = LentDetail(models, pairs, shrink=1, num_views=2)
    one = GalleryDetail(models, pairs, 2)
    cameras = [camera_at(x) for x in (0.05, -0.3, 0.45)]
    found = lent_at(lent, models, cameras)
    expected = one.at(cameras, models.render_views(cameras))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert found.abs().amax() > 0.05


def test_cameras_near_a_pose_take_its_photographs(plane):
    lent = LentDetail(plane, gallery(plane, VIEWS, texture), shrink=1, num_views=1)
    near = [camera_at(x) for x in (0.0, -0.3, 0.02, -0.28)]  # two poses, then one near each
    found = lent_at(lent, plane, near, times=2)
    alone = torch.cat([lent_at(lent, plane, near[k::2], times=2) for k in (0, 1)])
    torch.testing.assert_close(found, alone[[0, 2, 1, 3]], atol=1e-5, rtol=0)


def test_shrunk_and_cut_renderings_get_the_same_detail(plane):
    full = LentDetail(plane, gallery(plane, VIEWS, texture), shrink=1, num_views=2)
    small = LentDetail(plane, gallery(plane, VIEWS, texture), shrink=2, num_views=2)
    camera = camera_at(0.05)
    whole = lent_at(full, plane, [camera])[0]
    cut = replace(camera, intrinsics=camera.intrinsics.cropped(8, 12, 32, 24).resized(16, 12))
    part = lent_at(small, plane, [cut])[0]
    expected = torch.nn.functional.avg_pool2d(whole[:, 12:36, 8:40], 2)
    assert (part - expected).abs().max() < 0.02  # worst seen 0.012: the print is averaged twice
    assert expected.abs().max() > 0.05


def test_the_vote_finds_a_print_that_the_models_lack():
    """A grey wall: only its print says how far along x the camera is."""
    wall = ModelPair(*2 * [grey(sheet(half=1.5))])
    lent = LentDetail(wall, gallery(wall, VIEWS, texture), shrink=2, num_views=4)
    true, off = camera_at(0.05), camera_at(0.062)
    image = rendered(wall, true).over(wall.background) + texture(true)
    target = Target.stacked([Target(image, None, true.intrinsics, None)])
    hessian = torch.diag(torch.tensor([1.0, 1e6, 1e6, 1e6, 1e6, 1e6], dtype=torch.float64))[None]
    start, cost = off.world_to_camera[None], torch.ones(1, dtype=torch.float64)
    ends = [settled(target, start, hessian, cost, wall, 0.6, own)[0][0] for own in (None, lent)]
    without, found = (abs(float(end[0, 3] - true.world_to_camera[0, 3])) for end in ends)
    assert found < 0.003 < 0.01 < without


def test_detail_is_lent_where_it_is_asked_for_and_sizes_are_one(plane):
    pairs = gallery(plane, VIEWS, texture)
    cfg = RefineConfig()
    assert lent_detail(plane, pairs, cfg).num_views == 4 == cfg.refine_detail_views
    assert lent_detail(plane, pairs, replace(cfg, refine_detail_views=0)) is None
    assert lent_detail(plane, pairs, replace(cfg, refiner="adam")) is None
    other = replace(camera_at(0.0), intrinsics=Intrinsics.from_fov_x(0.6, SIDE, SIDE - 2))
    photo = Photo("other", other, pairs[0][0].pixels)
    assert lent_detail(plane, [*pairs, (photo, photo)], cfg) is None
    assert lent_detail(plane, pairs[:1], cfg).num_views == 1


def test_a_photograph_from_behind_lends_nothing(plane):
    pairs = gallery(plane, (0.0,), texture)
    turned = camera_at(0.0).world_to_camera.clone()
    turned[:3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    behind = replace(camera_at(0.0), world_to_camera=turned)
    photo = Photo("behind", behind, pairs[0][0].pixels)
    lent = LentDetail(plane, [(photo, photo)], shrink=1, num_views=1)
    lent.stacked[:, 7] = 1.0  # whatever it shows: depths disagree
    lent.stacked[:, 6] = 2 * math.pi
    assert lent_at(lent, plane, [camera_at(0.1)]).abs().max() == 0
