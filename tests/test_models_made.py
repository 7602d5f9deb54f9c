"""Objects made of OBJ files; without Mitsuba."""

from pathlib import Path

import numpy as np
import pytest

from data.make import damage, models, objects
from data.make.mesh import Mesh, face_normals, unit
from data.make.models import (
    KINDS,
    Model,
    corner_normals,
    divided,
    parts_of,
    read_model,
    welded,
    whole_faces,
)

BOX = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def box_corners(size=1.0, at=(0.0, 0.0, 0.0)):
    """Corners [12, 3, 3] of a box's faces, counter-clockwise seen from outside."""
    faces = [half for a, b, c, d in SIDES for half in ((a, b, c), (a, c, d))]
    return BOX[np.array(faces)] * size + at


@pytest.fixture
def two_boxes():
    """A model of two boxes of 12 faces each, of which the small one can get lost."""
    corners = np.concatenate([box_corners(), box_corners(0.2, (1.4, 0, 0))])
    places = welded(corners.reshape(-1, 3)).reshape(-1, 3)
    part = parts_of(places, np.zeros(24, int))
    normals = corner_normals(corners, places)
    faces = np.arange(72).reshape(-1, 3).astype(np.uint32)
    mesh = Mesh(corners.reshape(-1, 3).astype(np.float32), faces, normals.reshape(-1, 3))
    mesh.painted(np.tile([0.5, 0.2, 0.1, 0, 0.5], (72, 1)))
    return Model(mesh, np.repeat(part, 3), np.array([part[-1]]), {}, {})


def test_a_box_turns_outwards_and_keeps_its_edges():
    corners = box_corners(2.0)
    places = welded(corners.reshape(-1, 3)).reshape(-1, 3)
    assert places.max() == 7
    normals = corner_normals(corners, places)
    flat = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    np.testing.assert_allclose(normals, np.repeat(flat[:, None], 3, 1), atol=1e-12)
    assert ((corners - 1) * normals).sum(-1).min() > 0


def test_faces_that_meet_at_a_small_angle_share_a_normal():
    rise = np.tan(np.radians(10))
    corners = np.array(
        [[(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(1, 0, 0), (0, 0, 0), (0, -1, -rise)]], float
    )
    places = welded(corners.reshape(-1, 3)).reshape(-1, 3)
    normals = corner_normals(corners, places)
    np.testing.assert_allclose(normals[0, 0], normals[1, 1], atol=1e-12)
    own = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    cosines = own @ normals[0, 0]
    assert cosines.min() > np.cos(np.radians(6)) and cosines.max() < np.cos(np.radians(4))
    np.testing.assert_allclose(normals[0, 2], own[0], atol=1e-12)


def test_of_two_faces_in_one_place_the_first_is_kept_and_lines_are_left_out():
    places = np.array([(5, 6, 7), (1, 2, 3), (4, 4, 8), (2, 1, 3), (7, 5, 6), (1, 2, 4)])
    assert whole_faces(places).tolist() == [0, 1, 5]


def test_parts_hang_together_and_are_of_one_material():
    corners = np.concatenate([box_corners(), box_corners(0.5, (3, 0, 0))])
    places = welded(corners.reshape(-1, 3)).reshape(-1, 3)
    material = np.r_[np.zeros(6, int), np.ones(6, int), np.zeros(12, int)]
    part = parts_of(places, material)
    assert [len(set(part[k : k + 6])) for k in (0, 6, 12)] == [1, 1, 1]
    assert len({part[0], part[6], part[12]}) == 3 and part[12] == part[23]


def test_divided_faces_are_small_cover_the_same_and_interpolate(monkeypatch):
    monkeypatch.setattr(models, "STEP", 0.1)
    corners = box_corners()
    values = np.concatenate([corners, corners @ np.array([[1.0], [2.0], [-1.0]])], 2)
    found, source = divided(values)
    edges = np.linalg.norm(np.roll(found, -1, 1)[..., :3] - found[..., :3], axis=2)
    assert edges.max() <= 0.1 and len(found) == len(source)
    faces = np.arange(found.shape[0] * 3).reshape(-1, 3)
    areas = np.linalg.norm(face_normals(found[..., :3].reshape(-1, 3), faces), axis=1) / 2
    np.testing.assert_allclose(np.bincount(source, areas), 0.5)
    np.testing.assert_allclose(found[..., 3], found[..., :3] @ [1, 2, -1], atol=1e-12)


def test_many_faces_are_divided_no_further(monkeypatch):
    monkeypatch.setattr(models, "STEP", 0.01)
    monkeypatch.setattr(models, "MOST_FACES", 1000)
    assert 300 < len(divided(box_corners())[0]) < 3000


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_what_it_says(two_boxes, kind):
    rng = np.random.default_rng(3)
    flawless = two_boxes.mesh()
    before = [np.copy(a) for a in (flawless.vertices, flawless.faces, flawless.colour)]
    defect = two_boxes.random_defect(kind, rng)
    assert defect["kind"] == kind
    np.testing.assert_allclose(two_boxes.defect_normal(defect), defect["normal"])
    broken = two_boxes.mesh(defect)
    small = two_boxes.part == two_boxes.loose[0]
    if kind == "lost":
        assert len(broken.faces) == 12 and not small[broken.faces].any()
    elif kind == "slipped":
        off = np.linalg.norm(broken.vertices - flawless.vertices, axis=1)
        assert off[small].max() > 0.02 and off[~small].max() == 0
        sides = np.ptp(broken.vertices[small], 0)
        assert np.all(sides < 0.2 * 3**0.5 + 1e-6)
        np.testing.assert_allclose(np.linalg.norm(broken.normals, axis=1), 1, atol=1e-5)
    elif kind == "recoloured":
        assert (broken.colour[small] != flawless.colour[small]).any()
        assert (broken.colour[~small] == flawless.colour[~small]).all()
    else:
        assert len(broken.faces) < 24
        at = np.array(defect["centre"])
        gone = set(map(tuple, flawless.faces)) - set(map(tuple, broken.faces))
        for face in gone:
            reach = np.linalg.norm(flawless.vertices[list(face)] - at, axis=1).min()
            assert reach < 1.3 * defect["radius"]
    after = flawless.vertices, flawless.faces, flawless.colour
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_what_has_no_loose_part_loses_none(two_boxes):
    whole = Model(two_boxes.flawless, two_boxes.part, np.array([], int), {}, {})
    assert whole.defects == ("holed",) and two_boxes.defects == KINDS
    with pytest.raises(ValueError, match="no 'dent'; known: holed, lost"):
        two_boxes.random_defect("dent", np.random.default_rng(0))


OBJ = """mtllib {name}.mtl
v 0 0 0\nv 4 0 0\nv 4 2 0\nv 0 2 0\nv 0 0 1\nv 4 0 1\nv 4 2 1\nv 0 2 1
usemtl chrome
f 1 4 3 2\nf 5 6 7 8\nf 1 2 6 5\nf 4 8 7 3
usemtl red
f 1 5 8 4\nf 2 3 7 6
"""
MTL = "newmtl chrome\nKd 0.5 0.5 0.5\nNs 200\n\nnewmtl red\nKd 1 0 0\nNs 2\n"


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / f"{name}.obj").write_text(OBJ.format(name=name))
        (tmp_path / f"{name}.mtl").write_text(MTL)
    return tmp_path


def test_a_file_becomes_an_object_that_can_be_broken(tmp_path, monkeypatch):
    pytest.importorskip("trimesh")
    folder_of(tmp_path, "crate")
    monkeypatch.setattr(models, "STEP", 0.2)
    monkeypatch.setattr(models, "PART_AREA", (0, 1))
    monkeypatch.setattr(models, "seen_from_outside", lambda mesh, part, material: (mesh, part))
    known = set(objects.OBJECTS)
    try:
        assert objects.add_models(tmp_path) == ["crate"]
        kind = objects.OBJECTS["crate"]
        assert kind.defects == KINDS + damage.KINDS and not kind.on_table
        model = kind.load()
        assert model is read_model(tmp_path / "crate.obj")
        mesh = model.mesh()
        low, high = mesh.vertices.min(0), mesh.vertices.max(0)
        np.testing.assert_allclose(low, -high, atol=1e-5)
        x, y, z = high - low  # y is up in the file
        assert x / z == pytest.approx(2, rel=1e-4) and x / y == pytest.approx(4, rel=1e-4)
        radius = np.linalg.norm(high)
        assert models.SMALLEST_RADIUS - 1e-4 < radius < models.LARGEST_RADIUS + 1e-4
        ends = np.abs(mesh.normals[:, 0]) > 0.99
        np.testing.assert_allclose(mesh.colour[ends], [[0.95, 0.01, 0.01]] * ends.sum(), atol=1e-6)
        assert mesh.metallic[~ends].min() == 1 and mesh.metallic[ends].max() in (0, 1)
        assert mesh.roughness[ends].mean() > 2 * mesh.roughness[~ends].mean()
        assert sorted(model.loose) == [0, 1, 2]  # the two ends don't touch
        outwards = (face_normals(mesh.vertices, mesh.faces) * mesh.normals[mesh.faces[:, 0]]).sum(1)
        assert outwards.min() > 0
        lost = objects.random_defect("crate", "lost", np.random.default_rng(0))
        assert len(model.mesh(lost).faces) < len(mesh.faces)
        dent = objects.random_defect("crate", "dented", np.random.default_rng(0))
        assert objects.defect_normal("crate", dent) == pytest.approx(dent["normal"])
    finally:
        for name in set(objects.OBJECTS) - known:
            del objects.OBJECTS[name]


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    folder_of(tmp_path, "chair")
    folder_of(tmp_path / "a", "chair")
    with pytest.raises(SystemExit, match="two objects of the names chair; rename one"):
        objects.add_models(tmp_path)
    assert "chair" not in objects.OBJECTS
    (tmp_path / "a/chair.obj").rename(tmp_path / "a/Knob.obj")
    with pytest.raises(SystemExit, match="Knob"):
        objects.add_models(tmp_path)


class OutsideOnly:
    """A stage that shows the outer box [-1, 1]^3 alone: points on the faces towards the camera."""

    def __init__(self, shapes):
        pass

    def places(self, pose, size):
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 2), -1).reshape(-1, 2)
        sides = [np.insert(grid, axis, np.sign(pose[axis, 3]), axis=1) for axis in range(3)]
        return np.concatenate(sides)


def test_what_is_inside_is_left_out_and_what_shows_its_back_turned(monkeypatch):
    outer, inner = box_corners(2.0, (-1, -1, -1)), box_corners(0.5, (-0.2, -0.2, -0.2))
    outer = outer[:, ::-1]  # its normals point inwards
    values, source = divided(np.concatenate([outer, inner]))
    part = np.repeat(source >= 12, 3).astype(int)
    corners = values[:, :, :3]
    normals = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    faces = np.arange(len(part)).reshape(-1, 3).astype(np.uint32)
    mesh = Mesh(corners.reshape(-1, 3), faces, np.repeat(normals, 3, 0))
    mesh.painted(np.tile([0.5, 0.5, 0.5, 0, 0.5], (len(part), 1)))
    monkeypatch.setattr(models, "Stage", OutsideOnly)
    found, found_part = models.seen_from_outside(mesh, part, {})
    assert set(found_part) == {0} and 0 < len(found.faces) <= len(outer) * len(faces)
    assert len(found.colour) == len(found.vertices) == len(found_part)
    np.testing.assert_allclose(np.abs(found.vertices).max(1), 1, atol=1e-6)
    geometric = unit(face_normals(found.vertices, found.faces))
    outwards = found.vertices[found.faces].mean(1)
    assert (geometric * outwards).sum(1).min() > 0.9
    np.testing.assert_allclose(geometric, found.normals[found.faces[:, 0]], atol=1e-5)


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no file in .* ends with .obj; name a folder"):
        objects.add_models(tmp_path)


def test_unknown_names_are_refused(tmp_path, capsys):
    from data.make import make_mip_object, make_training_objects

    with pytest.raises(SystemExit):
        make_mip_object.main(["Toaster", str(tmp_path)])
    assert "no object 'Toaster'; there are Spring, Knob" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make_training_objects.main([str(tmp_path), "--names", "Knob", "Watch"])
    assert "--names: no Watch; there are Knob, Bracket" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
