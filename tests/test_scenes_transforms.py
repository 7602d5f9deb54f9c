"""MAD and MIP folders, as NeRF tools and the data sets write them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from piad.scenes import DataConfig, is_normal, load_scene
from piad.true_poses import true_query_cameras
from tests.scene_builder import FOV_X, edit_json, poses, write_mask, write_mip, write_photo


def load(root, **options):
    return load_scene(DataConfig(data_dir=str(root.parent), **options), root.name)


@pytest.fixture
def can(tmp_path):
    return write_mip(tmp_path / "MIP" / "Can")


def test_mip_scene_has_gallery_queries_labels_and_masks(can):
    scene = load(can)
    assert (scene.name, scene.dataset_type, scene.dataset) == ("Can", "MIP", "MIP")
    assert [view.id for view in scene.gallery] == ["train/000", "train/001", "train/002"]
    assert [(q.id, q.label) for q in scene.queries] == [("burr/000", 1), ("good_B/000", 0)]
    expected = torch.zeros(24, 24, dtype=torch.bool)
    expected[4:12, 8:16] = True
    assert torch.equal(scene.queries[0].mask(), expected)
    assert not scene.queries[1].mask().any()
    assert scene.points is None and scene.has_masks


def test_gallery_pose_and_focal_are_those_of_transforms_json(can):
    view = load(can).gallery[1]
    assert torch.allclose(
        view.camera.camera_to_world_opengl, torch.tensor(poses(3)[1], dtype=torch.float64)
    )
    assert view.camera.intrinsics.fx == pytest.approx(12 / math.tan(FOV_X / 2))


def test_image_is_the_file_in_0_to_1(can):
    pixels = np.asarray(Image.open(can / "train" / "002.png"))
    image = load(can).gallery[2].image()
    assert image.dtype == torch.float32 and image.shape == (3, 24, 24)
    assert np.array_equal((image * 255).round().byte().permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize(
    "names", ["train/{:03d}", "train/{:03d}.png", "./train/{:03d}", "train\\{:03d}.png", "{:03d}"]
)
def test_file_path_is_found_however_it_is_written(tmp_path, names):
    root = write_mip(tmp_path / "Can", names=names)
    assert [view.id for view in load(root).gallery] == ["train/000", "train/001", "train/002"]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp", ".PNG"])
def test_image_types_are_read_whatever_the_case(tmp_path, suffix):
    root = write_mip(tmp_path / "Can", suffix=suffix)
    scene = load(root)
    assert len(scene.gallery) == 3 and len(scene.queries) == 2
    assert scene.queries[0].image().shape == (3, 24, 24)


def test_mad_layout_is_recognised_with_its_mask_names(tmp_path):
    root = write_mip(
        tmp_path / "LEGO-3D" / "01Gorilla",
        train="train/good",
        names="train/good/{:03d}.png",
        mask_end="_mask",
    )
    scene = load(root)
    assert scene.dataset_type == "MAD"
    assert scene.queries[0].mask().sum() == 64
    assert scene.gallery[0].id == "train/good/000"
    assert load(root, dataset_type="lego-3d").dataset_type == "MAD"


def test_fl_x_and_principal_point_are_scaled_from_w_and_h(tmp_path):
    root = write_mip(
        tmp_path / "Can", size=(40, 20), fl_x=90.0, fl_y=100.0, cx=42.0, cy=18.0, w=80, h=40
    )
    k = load(root).gallery[0].camera.intrinsics
    assert (k.fx, k.fy, k.cx, k.cy, k.width, k.height) == (45.0, 50.0, 21.0, 9.0, 40, 20)


def test_a_frame_s_own_intrinsics_go_before_the_file_s(tmp_path):
    root = write_mip(tmp_path / "Can", fl_x=30.0)
    edit_json(root / "transforms.json", lambda c: c["frames"][1].update(fl_x=33.0))
    focal = [view.camera.intrinsics.fx for view in load(root).gallery]
    assert focal == [30.0, 33.0, 30.0]


def test_camera_angle_y_does_not_change_the_focal(tmp_path):
    root = write_mip(tmp_path / "Can", size=(40, 20), camera_angle_y=0.9)
    k = load(root).gallery[0].camera.intrinsics
    assert k.fx == k.fy


def test_work_resolution_shrinks_by_area_and_never_enlarges(tmp_path):
    root = write_mip(tmp_path / "Can", size=(40, 20))
    view = load(root, resolution=20).gallery[0]
    pixels = np.asarray(Image.open(root / "train" / "000.png"), dtype=np.float64)
    blocks = pixels.reshape(10, 2, 20, 2, 3).mean(axis=(1, 3)) / 255
    assert view.image().shape == (3, 10, 20)
    # 8-bit storage rounds once
    assert np.abs(view.image().permute(1, 2, 0).numpy() - blocks).max() <= 0.51 / 255
    assert view.camera.intrinsics.fx == pytest.approx(10 / math.tan(FOV_X / 2))
    assert load(root, resolution=400).gallery[0].image().shape == (3, 20, 40)
    assert load(root, resolution=0).gallery[0].image().shape == (3, 20, 40)


def test_alpha_is_shown_over_white_only_when_asked(can):
    rgba = np.zeros((24, 24, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[:12, :, 3] = 255
    rgba[12:, :, 3] = 51  # one fifth
    Image.fromarray(rgba).save(can / "train" / "000.png")
    over_white = load(can, white_background=True).gallery[0].image()
    over_black = load(can).gallery[0].image()
    assert torch.allclose(over_white[:, 20, 5], torch.tensor([244.0, 204, 204]) / 255, atol=2e-3)
    assert torch.allclose(over_black[:, 20, 5], torch.tensor([40.0, 0, 0]) / 255, atol=2e-3)
    assert torch.equal(over_white[:, :12], over_black[:, :12])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_image_mode_becomes_three_channels(can, mode):
    grey = Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) * 10, (24, 1)))
    path = can / "train" / ("000.jpg" if mode == "CMYK" else "000.png")
    if mode == "I;16":
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path)
    else:
        (grey.convert("RGB") if mode == "CMYK" else grey).convert(mode).save(path)
    if mode == "CMYK":
        (can / "train" / "000.png").unlink()
    image = load(can).gallery[0].image()
    assert image.shape == (3, 24, 24)
    if mode not in ("1", "CMYK"):
        assert torch.allclose(image[0, 0], torch.arange(24) * 10 / 255, atol=2 / 255)


def test_exif_orientation_is_applied(can):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(pixels).save(can / "train" / "000.png", exif=exif)
    shown = load(can).gallery[0].image()
    assert np.array_equal(
        (shown * 255).round().byte().permute(1, 2, 0).numpy(), np.rot90(pixels, -1)
    )


def test_query_of_another_resolution_gets_the_gallery_s_pinhole_scaled(tmp_path):
    root = write_mip(tmp_path / "Can", size=(40, 20), query_size=(80, 40))
    scene = load(root)
    k = scene.queries[0].intrinsics
    assert (k.width, k.height) == (80, 40)
    assert k.fx == pytest.approx(2 * scene.gallery[0].camera.intrinsics.fx)
    assert scene.queries[0].mask().shape == (40, 80)


def test_query_held_upright_swaps_the_gallery_s_pinhole(tmp_path):
    root = write_mip(
        tmp_path / "Can", size=(40, 20), query_size=(20, 40), fl_x=50.0, fl_y=52.0, cx=21.0, cy=9.0
    )
    k = load(root).queries[0].intrinsics
    assert (k.fx, k.fy, k.cx, k.cy, k.width, k.height) == (52.0, 50.0, 9.0, 21.0, 20, 40)


def test_query_intrinsics_can_be_given(tmp_path):
    root = write_mip(tmp_path / "Can", size=(40, 20), query_size=(30, 30))
    assert load(root, query_focal_px=77.0).queries[0].intrinsics.fx == 77.0
    fx = load(root, query_fov_x_deg=90.0).queries[0].intrinsics.fx
    assert fx == pytest.approx(15.0)
    frame = {"file_path": "./test/burr/000.png", "transform_matrix": poses(1)[0], "fl_x": 60.0}
    good = {**frame, "file_path": "test/good_B/000", "fl_x": 61.0}
    (root / "transforms_test.json").write_text(json.dumps({"frames": [frame, good]}))
    assert [query.intrinsics.fx for query in load(root).queries] == [60.0, 61.0]


def test_without_any_ground_truth_only_image_labels_are_left(can):
    shutil.rmtree(can / "ground_truth")
    scene = load(can)
    assert not scene.has_masks
    assert scene.queries[0].label == 1 and scene.queries[0].mask_path is None
    with pytest.raises(UserError, match="no ground truth for .*burr/000.png"):
        scene.queries[0].mask()


def test_masks_of_0_and_1_and_small_defects_survive(can):
    write_mask(can / "ground_truth" / "burr" / "000.png", value=1)
    assert load(can).queries[0].mask().sum() == 64
    speck = np.zeros((24, 24), dtype=np.uint8)
    speck[5, 5] = 255
    Image.fromarray(speck).save(can / "ground_truth" / "burr" / "000.png")
    mask = load(can, resolution=12).queries[0].mask()
    assert mask.sum() == 1 and mask[2, 2]


def test_good_and_good_underscore_are_normal_and_nothing_else():
    assert is_normal("good") and is_normal("good_B")
    assert not is_normal("goodish") and not is_normal("burr")


def test_test_frames_in_transforms_json_stay_out_of_the_gallery(can):
    extra = {"file_path": "test/burr/000.png", "transform_matrix": poses(1)[0]}
    edit_json(can / "transforms.json", lambda c: c["frames"].append(extra))
    assert len(load(can).gallery) == 3


def test_a_slightly_rounded_pose_is_made_exactly_rigid(can):
    def round_poses(content):
        for frame in content["frames"]:
            frame["transform_matrix"] = np.round(frame["transform_matrix"], 3).tolist()

    edit_json(can / "transforms.json", round_poses)
    r = load(can).gallery[0].camera.world_to_camera[:3, :3]
    assert torch.allclose(r @ r.T, torch.eye(3, dtype=r.dtype), atol=1e-12)


def test_true_poses_are_those_of_transforms_test_json(can):
    assert true_query_cameras(load(can)) is None
    frame = {"file_path": "test/burr/000", "light": "B", "transform_matrix": poses(1, seed=8)[0]}
    content = {"camera_angle_x": FOV_X, "frames": [frame]}
    (can / "transforms_test.json").write_text(json.dumps(content))
    scene = load(can)
    cameras = true_query_cameras(scene)
    expected = Camera.from_opengl(
        scene.queries[0].intrinsics, torch.tensor(poses(1, seed=8)[0], dtype=torch.float64)
    )
    assert list(cameras) == ["burr/000"]
    assert torch.allclose(cameras["burr/000"].world_to_camera, expected.world_to_camera)


def test_a_view_reads_another_path_after_replace(can):
    write_photo(can / "other.png", seed=77)
    view = load(can).gallery[0]
    assert not torch.equal(view.image(), replace(view, path=can / "other.png").image())


def test_a_rewritten_image_is_not_taken_from_the_cache(can):
    view = load(can).gallery[0]
    before = view.image()
    write_photo(view.path, seed=99)
    assert not torch.equal(view.image(), before)
