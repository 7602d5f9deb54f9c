"""Every fault of a class folder is one line that names the rule, the value and the file."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from gaussian_renderer.errors import UserError
from piad.fingerprint import gallery_fingerprint, query_fingerprint
from piad.images import ImageCache, read_image
from piad.scenes import DataConfig, load_scene
from tests.scene_builder import edit_json, write_mip, write_photo


def load(root, **options):
    return load_scene(DataConfig(data_dir=str(root.parent), **options), root.name)


def error_of(function, *args, **options) -> str:
    with pytest.raises(UserError) as caught:
        function(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def can(tmp_path):
    return write_mip(tmp_path / "MIP" / "Can")


def test_unknown_class_names_the_folder_and_the_classes_there(can):
    write_mip(can.parent / "Spring")
    text = error_of(load_scene, DataConfig(data_dir=str(can.parent)), "Sprung")
    assert str(can.parent) in text and "Can, Spring" in text and "did you mean Spring?" in text


def test_missing_data_folder_is_named(tmp_path):
    text = error_of(load_scene, DataConfig(data_dir=str(tmp_path / "none")), "Can")
    assert str(tmp_path / "none") in text and "data_dir" in text and "data/README.md" in text


def test_class_name_must_not_be_a_path(can):
    assert "../Can" in error_of(load_scene, DataConfig(data_dir=str(can)), "../Can")


def test_data_dir_may_name_the_class_folder_itself(can):
    assert load_scene(DataConfig(data_dir=str(can)), "Can").dataset == "MIP"


def test_folder_without_any_layout_is_refused(tmp_path):
    (tmp_path / "Can").mkdir()
    assert "neither transforms.json nor sparse/0" in error_of(load, tmp_path / "Can")
    assert "no transforms.json in" in error_of(load, tmp_path / "Can", dataset_type="MIP")


@pytest.mark.parametrize(
    ("content", "part"),
    [("{nonsense", "not valid JSON"), ("[]", '"frames"'), ('{"frames": []}', "non-empty")],
)
def test_bad_transforms_json_is_named(can, content, part):
    (can / "transforms.json").write_text(content)
    text = error_of(load, can)
    assert part in text and str(can / "transforms.json") in text


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda c: c.pop("camera_angle_x"), ["neither camera_angle_x nor fl_x"]),
        (lambda c: c.update(camera_angle_x=45.0), ["camera_angle_x", "radians", "45"]),
        (lambda c: c.update(camera_angle_x="wide"), ["camera_angle_x", "number", "'wide'"]),
        (lambda c: c.update(fl_x=-3), ["focal lengths must be positive", "-3"]),
        (lambda c: c.update(fl_x=30, w=100, h=50), ["100 x 50", "24 x 24"]),
        (lambda c: c.update(k1=0.1), ["undistorted", "k1 = 0.1"]),
        (lambda c: c.update(camera_model="OPENCV_FISHEYE"), ["OPENCV_FISHEYE"]),
        (lambda c: c["frames"][1].pop("file_path"), ["frame 1", "file_path"]),
        (lambda c: c["frames"][1].pop("transform_matrix"), ["train/001", "there is none"]),
        (lambda c: c["frames"][1].update(transform_matrix=[[1, 2], [3]]), ["train/001"]),
        (lambda c: c["frames"][1].update(transform_matrix=np.eye(3).tolist()), ["[3, 3]"]),
        (
            lambda c: c["frames"][1].update(transform_matrix=(2 * np.eye(4)).tolist()),
            ["scaled or sheared"],
        ),
        (
            lambda c: c["frames"][1].update(transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist()),
            ["mirror"],
        ),
        (
            lambda c: c["frames"][1].update(
                transform_matrix=[[1, 0, 0, float("nan")], [0, 1, 0, 0], [0, 0, 1, 0]]
            ),
            ["not finite"],
        ),
        (lambda c: c["frames"].append(c["frames"][0]), ["train/000", "more than once"]),
        (lambda c: c["frames"][1].update(file_path="train/777"), ["train/777", "not in"]),
        (
            lambda c: [frame.update(file_path="test/burr/000") for frame in c["frames"]],
            ["no gallery image"],
        ),
    ],
)
def test_faults_of_transforms_json_are_named(can, change, parts):
    edit_json(can / "transforms.json", change)
    text = error_of(load, can)
    assert all(part in text for part in [*parts, "transforms.json"]), text


def test_missing_test_folder_types_and_images_are_named(can):
    shutil.rmtree(can / "test" / "burr")
    (can / "test" / "burr").mkdir()
    assert f"no image in {can / 'test' / 'burr'}" in error_of(load, can)
    shutil.rmtree(can / "test")
    assert f"no folder test in {can}" in error_of(load, can)
    (can / "test").mkdir()
    write_photo(can / "test" / "000.png")
    assert "no test/<type> folder" in error_of(load, can)


def test_two_queries_of_one_name_are_refused(can):
    write_photo(can / "test" / "burr" / "000.jpg")
    text = error_of(load, can)
    assert "000.png" in text and "000.jpg" in text and "rename" in text


def test_missing_mask_names_the_file_expected(can):
    (can / "ground_truth" / "burr" / "000.png").unlink()
    text = error_of(load, can)
    assert str(can / "ground_truth" / "burr" / "000.png") in text and "000_mask.png" in text


def test_wrong_sized_mask_is_refused(can):
    Image.new("L", (24, 12)).save(can / "ground_truth" / "burr" / "000.png")
    text = error_of(load, can)
    assert "24 x 24" in text and "24 x 12" in text and "mask" in text


def test_wrong_sized_query_says_how_to_give_its_focal(can):
    write_photo(can / "test" / "burr" / "000.png", size=(50, 24))
    text = error_of(load, can)
    assert "50 x 24" in text and "24 x 24" in text and "query_focal_px" in text


def test_file_that_is_no_image_is_named_when_the_scene_is_read(can):
    (can / "train" / "001.png").write_text("no picture")
    text = error_of(load, can)
    assert "cannot read the image" in text and str(can / "train" / "001.png") in text


def test_truncated_image_is_named_when_it_is_decoded(can):
    path = can / "train" / "001.png"
    path.write_bytes(path.read_bytes()[:-900])
    view = load(can).gallery[1]
    text = error_of(view.image)
    assert str(path) in text and "replace" in text


def test_image_removed_after_reading_the_scene_is_named(can):
    scene = load(can)
    scene.gallery[0].path.unlink()
    assert str(scene.gallery[0].path) in error_of(scene.gallery[0].image)
    assert str(scene.gallery[0].path) in error_of(gallery_fingerprint, scene)


@pytest.mark.parametrize(
    "options", [{"resolution": -1}, {"query_focal_px": -2.0}, {"query_fov_x_deg": 190.0}]
)
def test_values_out_of_range_are_named(options):
    assert next(iter(options)) in error_of(DataConfig, **options)


def test_fingerprints_change_with_images_and_poses_only(can):
    scene = load(can)
    gallery, query = gallery_fingerprint(scene), query_fingerprint(scene.queries[0])
    assert gallery == gallery_fingerprint(load(can))
    write_photo(can / "test" / "burr" / "000.png", seed=50)
    changed = load(can)
    assert gallery_fingerprint(changed) == gallery
    assert query_fingerprint(changed.queries[0]) != query
    edit_json(can / "transforms.json", lambda c: c.update(camera_angle_x=0.81))
    assert gallery_fingerprint(load(can)) != gallery


def test_cache_stays_within_its_bound_and_drops_the_oldest(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for index, path in enumerate(paths):
        write_photo(path, (10, 10), index)
    cache = ImageCache(max_bytes=650)  # two images of 300 bytes
    images = [read_image(path, (10, 10), cache=cache) for path in paths]
    assert cache.num_bytes == 600
    again = [read_image(path, (10, 10), cache=cache) for path in paths]
    assert all((a == b).all() for a, b in zip(images, again, strict=True))
    too_small = ImageCache(max_bytes=10)
    read_image(paths[0], (10, 10), cache=too_small)
    assert too_small.num_bytes == 0


def test_cached_image_is_not_changed_by_its_reader(tmp_path):
    write_photo(tmp_path / "a.png", (10, 10))
    cache = ImageCache(10_000)
    first = read_image(tmp_path / "a.png", (10, 10), cache=cache)
    kept = first.clone()
    first.zero_()
    assert (read_image(tmp_path / "a.png", (10, 10), cache=cache) == kept).all()
