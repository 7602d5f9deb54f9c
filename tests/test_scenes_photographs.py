"""Photographs from outside the data set become queries, or one line says why not."""

from pathlib import Path

import pytest

from gaussian_renderer.errors import UserError
from piad.scenes import DataConfig, load_scene
from tests.scene_builder import write_mip, write_photo


@pytest.fixture
def can(tmp_path):
    return write_mip(tmp_path / "MIP" / "Can", size=(40, 30))


def load(can, *paths, **options):
    return load_scene(DataConfig(data_dir=str(can.parent), **options), "Can", paths)


def error_of(*args, **options):
    with pytest.raises(UserError) as caught:
        load(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_photograph_takes_the_gallery_s_pinhole_at_its_own_size(can, tmp_path):
    write_photo(tmp_path / "a.jpg", (80, 60))
    scene = load(can, tmp_path / "a.jpg", resolution=40)
    (query,) = scene.queries
    assert (query.id, query.label, query.mask_path, query.alone) == ("query/a", None, None, True)
    assert query.intrinsics == scene.gallery[0].camera.intrinsics
    assert query.image().shape == (3, 30, 40)


def test_the_class_needs_no_queries_of_its_own(can, tmp_path):
    import shutil

    shutil.rmtree(can / "test")
    write_photo(tmp_path / "a.jpg", (40, 30))
    assert len(load(can, tmp_path / "a.jpg").queries) == 1
    assert "no folder test" in error_of(can)


def test_equal_stems_get_names_of_their_own(can, tmp_path):
    names = ["a.jpg", "b/a.png", "c/A.jpg", "a_2.jpg", "results.json.jpg", ".. .jpg"]
    names += ["B.jpg", "x/b.jpg"]  # one folder where a file system knows no upper case
    paths = [tmp_path / name for name in names]
    for path in paths:
        write_photo(path, (40, 30))
    stems = [query.stem for query in load(can, *paths).queries]
    assert stems == ["a", "a_2", "A_3", "a_2_2", "results.json_2", "query", "B", "b_2"]


def test_an_upright_photograph_turns_the_pinhole(can, tmp_path):
    write_photo(tmp_path / "a.jpg", (30, 40))
    (query,) = load(can, tmp_path / "a.jpg").queries
    assert (query.intrinsics.width, query.intrinsics.height) == (30, 40)


def test_wrong_photographs_are_named_with_what_is_wrong(can, tmp_path):
    good = tmp_path / "good.jpg"
    write_photo(good, (40, 30))
    assert "none.jpg is not there" in error_of(can, good, tmp_path / "none.jpg")
    assert "is a folder" in error_of(can, tmp_path)
    (tmp_path / "text.jpg").write_text("no picture")
    assert "cannot read the image" in error_of(can, good, tmp_path / "text.jpg")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(good.read_bytes()[:-400])
    assert "cannot read the image" in error_of(can, Path(cut))


def test_another_aspect_needs_another_pinhole(can, tmp_path):
    write_photo(tmp_path / "a.jpg", (40, 40))
    text = error_of(can, tmp_path / "a.jpg")
    assert "40 x 30, got 40 x 40" in text and "query_fov_x_deg" in text
    (query,) = load(can, tmp_path / "a.jpg", query_fov_x_deg=50.0).queries
    assert query.intrinsics.width == 40


def test_a_photograph_far_smaller_than_the_gallery_is_refused(can, tmp_path):
    write_photo(tmp_path / "a.jpg", (20, 15))
    assert load(can, tmp_path / "a.jpg").queries[0].image().shape == (3, 15, 20)
    write_photo(tmp_path / "b.jpg", (16, 12))
    assert "at least 50% of the working size, 40 px, got 16 px" in error_of(can, tmp_path / "b.jpg")
