"""COLMAP folders: text and binary models, their faults, and true poses in another frame."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from gaussian_renderer.errors import UserError
from gaussian_renderer.se3 import pose_error, se3_exp
from piad.scenes import DataConfig, load_scene
from piad.true_poses import Similarity, true_query_cameras, umeyama
from tests.scene_builder import colmap_cameras, write_colmap, write_photo

JOINT = Path(__file__).parents[1] / "data" / "Colmap" / "05Joint"


def load(root, **options):
    return load_scene(DataConfig(data_dir=str(root.parent), **options), root.name)


def to_binary(root) -> Path:
    """Convert the text model of a class folder, with pycolmap itself."""
    folder = root / "sparse" / "0"
    pycolmap.Reconstruction(str(folder)).write_binary(str(folder))
    for path in folder.glob("*.txt"):
        path.unlink()
    return folder


@pytest.fixture
def cup(tmp_path):
    return write_colmap(tmp_path / "Colmap" / "04Cup")


@pytest.mark.parametrize("binary", [False, True])
def test_cameras_points_and_images_of_a_model(cup, binary):
    if binary:
        to_binary(cup)
    scene = load(cup)
    assert (scene.dataset_type, scene.dataset) == ("COLMAP", "Colmap")
    assert [view.id for view in scene.gallery] == [f"images/{i:03d}" for i in range(4)]
    for view, expected in zip(scene.gallery, colmap_cameras(), strict=True):
        assert torch.allclose(view.camera.world_to_camera, expected.world_to_camera, atol=1e-9)
        assert view.camera.intrinsics == expected.intrinsics
    order = scene.points.xyz[:, 0].argsort()
    assert torch.equal(scene.points.xyz[order][2], torch.tensor([2.5, 4.0, -1.25]))
    assert torch.allclose(scene.points.rgb[order][2] * 255, torch.tensor([100.0, 128.0, 255.0]))
    assert [(q.id, q.label) for q in scene.queries] == [("good/000", 0), ("stain/000", 1)]


def test_simple_pinhole_has_one_focal_length(tmp_path):
    k = load(write_colmap(tmp_path / "Cup", model="SIMPLE_PINHOLE")).gallery[0].camera.intrinsics
    assert (k.fx, k.fy, k.cx, k.cy) == (30, 30, 16, 12)


def test_distorted_cameras_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match="SIMPLE_RADIAL.*image_undistorter"):
        load(write_colmap(tmp_path / "Cup", model="SIMPLE_RADIAL"))


def test_images_smaller_than_their_camera_scale_it(cup):
    write_photo(cup / "images" / "000.jpg", (16, 12))
    assert load(cup).gallery[0].camera.intrinsics.fx == 15


def test_image_missing_on_disk_is_named(cup):
    (cup / "images" / "002.jpg").unlink()
    with pytest.raises(UserError, match=r"has the image 002.jpg, which is not in .*images"):
        load(cup)


def test_image_missing_from_the_model_is_left_out_and_told(cup, capsys):
    write_photo(cup / "images" / "009.jpg", (32, 24))
    assert len(load(cup).gallery) == 4
    assert "009.jpg" in capsys.readouterr().out


def test_image_of_another_aspect_than_its_camera_is_refused(cup):
    write_photo(cup / "images" / "001.jpg", (32, 32))
    with pytest.raises(UserError, match="001.jpg.*32 x 24, got 32 x 32"):
        load(cup)


def test_exif_is_not_applied_where_the_model_was_made_from_stored_pixels(cup):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = write_photo(cup / "images" / "000.png", (32, 24), 5, exif=exif)
    (cup / "images" / "000.jpg").unlink()
    image = load(cup).gallery[0].image()
    assert np.array_equal((image * 255).round().byte().permute(1, 2, 0).numpy(), pixels)


def test_model_without_points_gives_none(cup):
    (cup / "sparse" / "0" / "points3D.txt").write_text("")
    assert load(cup).points is None


def test_missing_model_files_are_named(cup):
    (cup / "sparse" / "0" / "images.txt").unlink()
    with pytest.raises(UserError, match="no images.txt in"):
        load(cup)
    shutil.rmtree(cup / "sparse")
    with pytest.raises(UserError, match="no sparse/0 in"):
        load(cup, dataset_type="COLMAP")


def test_model_directly_under_sparse_is_read(cup):
    for path in (cup / "sparse" / "0").iterdir():
        path.rename(cup / "sparse" / path.name)
    (cup / "sparse" / "0").rmdir()
    assert len(load(cup).gallery) == 4


def test_model_without_registered_images_is_refused(cup):
    (cup / "sparse" / "0" / "images.txt").write_text("")
    with pytest.raises(UserError, match="no registered image"):
        load(cup)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("fault", ["truncated", "empty", "foreign", "longer"])
def test_damaged_binary_files_are_named(cup, part, fault):
    path = to_binary(cup) / f"{part}.bin"
    data = path.read_bytes()
    faulty = {
        "truncated": data[: len(data) // 2],
        "empty": b"",
        "foreign": b"\xff" * 400,
        "longer": data + b"\0\0",
    }
    path.write_bytes(faulty[fault])
    with pytest.raises(UserError) as caught:
        load(cup)
    assert str(path) in str(caught.value) and "damaged" in str(caught.value)


@pytest.mark.parametrize("part", ["cameras", "images"])
def test_damaged_text_files_are_refused(cup, part):
    (cup / "sparse" / "0" / f"{part}.txt").write_text("1 none of this is a number\n")
    with pytest.raises(UserError, match="COLMAP model"):
        load(cup)


def test_umeyama_recovers_a_similarity():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    turn = se3_exp(torch.tensor([0.0, 0, 0, 0.4, -1.1, 2.0], dtype=torch.float64))[:3, :3]
    shift = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    found = umeyama(source, 1.7 * source @ turn.T + shift)
    assert found.scale == pytest.approx(1.7)
    assert torch.allclose(found.rotation, turn) and torch.allclose(found.translation, shift)


def test_true_poses_in_another_frame_come_back_in_the_model_s(cup):
    away = Similarity(
        2.5,
        se3_exp(torch.tensor([0.0, 0, 0, 1.0, 0.3, -0.7], dtype=torch.float64))[:3, :3],
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    )
    matrices = [away.camera_to_world(c.camera_to_world_opengl).tolist() for c in colmap_cameras()]
    content = {
        "train": {f"{i:03d}.jpg": matrix for i, matrix in enumerate(matrices)},
        "test": [{"file_path": "test/stain/000.jpg", "transform_matrix": matrices[2]}],
    }
    (cup / "poses_true.json").write_text(json.dumps(content))
    cameras = true_query_cameras(load(cup))
    assert list(cameras) == ["stain/000"]
    angle, distance = pose_error(
        cameras["stain/000"].world_to_camera, colmap_cameras()[2].world_to_camera
    )
    assert angle < 1e-5 and distance < 1e-9


@pytest.mark.parametrize(
    ("content", "part"),
    [('{"train": 3}', "must hold"), ('{"train": {}, "test": []}', "share 3"), ("{", "valid JSON")],
)
def test_faults_of_poses_true_json_are_named(cup, content, part):
    (cup / "poses_true.json").write_text(content)
    with pytest.raises(UserError, match=part) as caught:
        true_query_cameras(load(cup))
    assert "poses_true.json" in str(caught.value)


@pytest.mark.skipif(not JOINT.is_dir(), reason="the example object is not in this checkout")
def test_shipped_joint_agrees_with_its_true_gallery_poses():
    scene = load(JOINT)
    content = json.loads((JOINT / "poses_true.json").read_text())
    true = {
        name.rsplit(".", 1)[0]: torch.tensor(m, dtype=torch.float64)
        for name, m in content["train"].items()
    }
    names = [view.path.stem for view in scene.gallery]
    similarity = umeyama(
        torch.stack([true[name][:3, 3] for name in names]),
        torch.stack([view.camera.position for view in scene.gallery]),
    )
    for name, view in zip(names, scene.gallery, strict=True):
        moved = similarity.camera_to_world(true[name])
        angle = pose_error(
            torch.linalg.inv(moved), torch.linalg.inv(view.camera.camera_to_world_opengl)
        )[0]
        assert angle < 0.2  # worst seen 0.05 degrees
    assert len(true_query_cameras(scene)) == len(scene.queries)
