"""Damage that any example object can suffer; without Mitsuba."""

import numpy as np
import pytest

from data.make import damage, objects
from data.make.damage import KINDS, damaged, random_damage
from data.make.likeness import random_likeness
from data.make.masks import ALBEDO_STEP
from data.make.mesh import Mesh, unit, vertex_normals

FIELDS = "vertices", "normals", "colour", "metallic", "roughness"


def sheet(side=161):
    """A thin box's both faces, 1.6 wide and 0.03 thick, of grey metal."""
    x, y = np.meshgrid(*2 * [np.linspace(-0.8, 0.8, side)], indexing="ij")
    faces, vertices, normals = [], [], []
    at = np.arange(side * side).reshape(side, side)
    a, b, c, d = (part.ravel() for part in (at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]))
    for z, turn in ((0.015, 1), (-0.015, -1)):
        corners = [np.stack([a, b, c][::turn], 1), np.stack([a, c, d][::turn], 1)]
        faces += [f + len(vertices) * side * side for f in corners]
        vertices.append(np.stack([x, y, 0 * x + z], -1).reshape(-1, 3))
        normals.append(np.tile([0.0, 0, turn], (side * side, 1)))
    mesh = Mesh(*map(np.concatenate, (vertices, faces, normals)))
    mesh.vertices = mesh.vertices.astype(np.float32)
    return mesh.painted(np.tile([0.5, 0.5, 0.5, 1, 0.4], (len(mesh.vertices), 1)))


def in_the_middle(mesh, kind, seed):
    defect = random_damage(kind, mesh, np.random.default_rng(seed))
    return defect | {"centre": [0.1, 0.0, 0.015], "normal": [0.0, 0.0, 1.0]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_damage_stays_near_its_middle_and_shows(kind, seed):
    mesh = sheet()
    defect = in_the_middle(mesh, kind, seed)
    before = [getattr(mesh, field).copy() for field in FIELDS]
    other = damaged(mesh, defect)
    assert all((getattr(mesh, f) == b).all() for f, b in zip(FIELDS, before, strict=True))
    changed = np.zeros(len(mesh.vertices), bool)
    for field in FIELDS:
        off = np.abs(getattr(other, field) - getattr(mesh, field)).reshape(len(changed), -1)
        changed |= off.max(1) > 1e-6
    away = np.linalg.norm(mesh.vertices - np.array(defect["centre"]), axis=1)
    size = defect["radius"] if "radius" in defect else 1.2 * defect["length"]
    assert changed.any() and away[changed].max() < 2 * size + 0.03
    if kind in ("stained", "scratched"):
        assert np.abs(other.colour - mesh.colour).max() > ALBEDO_STEP, "no mask would show it"
        assert (mesh.vertices[changed, 2] > 0).all(), "the back is not stained"


@pytest.mark.parametrize("kind, sign", [("dented", -1), ("bumped", 1)])
def test_a_pressed_sheet_stays_a_sheet_with_the_normals_of_its_surface(kind, sign):
    mesh = sheet()
    other = damaged(mesh, in_the_middle(mesh, kind, 2))
    moved = other.vertices - mesh.vertices
    assert sign * moved[:, 2].min() >= 0 if sign > 0 else moved[:, 2].max() <= 0
    assert 0.02 < np.abs(moved).max() < 0.1
    half = len(moved) // 2
    np.testing.assert_allclose(
        other.vertices[:half, 2] - other.vertices[half:, 2], 0.03, atol=0.003
    )
    inner = np.abs(mesh.vertices[:, :2]).max(1) < 0.79
    flat = unit(vertex_normals(other.vertices.astype(float), other.faces))
    assert (flat * other.normals).sum(1)[inner].min() > 0.97


def test_unknown_damage_is_refused():
    with pytest.raises(ValueError, match="known: dented"):
        random_damage("torn", sheet(), np.random.default_rng(0))


def test_an_object_suffers_damage_as_its_likeness_looks(monkeypatch):
    """The flawless mesh is made once; a defect of its own is made anew, then changed alike."""
    made = []

    class Module:
        MATERIAL = {"specular": 0.5}

        @staticmethod
        def mesh(defect):
            made.append(defect)
            return sheet()

        @staticmethod
        def random_defect(kind, rng):
            return {"kind": kind, "normal": (1, 0, 0)}

        @staticmethod
        def defect_normal(defect):
            return np.array(defect["normal"])

    monkeypatch.setattr(objects.Kind, "load", lambda self: Module)
    monkeypatch.setattr(objects, "Stage", lambda shapes, max_depth=6: shapes)
    objects._flawless.cache_clear()
    likeness = random_likeness(np.random.default_rng(1))
    defect = objects.random_defect("Knob", "stained", np.random.default_rng(0), likeness)
    ((broken, material),) = objects.build_stage("Knob", defect, likeness)
    ((flawless, _),) = objects.build_stage("Knob", None, likeness)
    assert made == [None]
    assert material["specular"] == likeness.specular
    np.testing.assert_array_equal(broken.vertices, flawless.vertices)
    assert 0 < (broken.colour != flawless.colour).any(1).mean() < 0.3
    assert (objects.defect_normal("Knob", defect) == defect["normal"]).all()
    own = objects.random_defect("Knob", "chip", None, likeness)
    assert own["kind"] == "chip" and (objects.defect_normal("Knob", own) == (1, 0, 0)).all()
    ((chipped, _),) = objects.build_stage("Knob", own, likeness)
    assert made == [None, own]
    np.testing.assert_array_equal(chipped.vertices, flawless.vertices)
    objects._flawless.cache_clear()


def test_no_object_calls_its_own_defects_so():
    assert not {k for kind in objects.OBJECTS.values() for k in kind.defects} & set(damage.KINDS)
