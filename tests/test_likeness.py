"""Likenesses of the example objects; without Mitsuba."""

from dataclasses import replace

import numpy as np
import pytest

from data.make.likeness import Likeness, random_likeness
from data.make.mesh import Mesh, unit, vertex_normals

SAME = Likeness(
    stretch=(1, 1, 1),
    twist=0.0,
    channels=(0, 1, 2),
    reversed=False,
    gamma=1.0,
    saturation=1.0,
    tint=(1, 1, 1),
    metal="kept",
    roughness=1.0,
    specular=0.5,
    clearcoat=0.0,
)


def ellipsoid(count=96):
    """A closed mesh with exact normals, and colours, metal and roughness that vary over it."""
    turn, rise = np.meshgrid(
        np.linspace(0, 2 * np.pi, 2 * count), np.linspace(-1.4, 1.4, count), indexing="ij"
    )
    ball = np.stack([np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise)], -1)
    half = np.array([0.9, 0.5, 0.7])
    at = np.arange(ball[..., 0].size).reshape(turn.shape)
    a, b, c, d = (corner.ravel() for corner in (at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    ball = ball.reshape(-1, 3)
    mesh = Mesh(ball * half, faces, unit(ball / half))
    colour = 0.5 + 0.4 * ball[:, [2, 0, 1]]
    return mesh.painted(np.c_[colour, ball[:, 0] > 0, 0.6 + 0.3 * ball[:, 1]])


@pytest.mark.parametrize("seed", range(6))
def test_the_normals_stay_those_of_the_surface(seed):
    mesh = random_likeness(np.random.default_rng(seed)).mesh(ellipsoid())
    flat = unit(vertex_normals(mesh.vertices.astype(float), mesh.faces))
    inner = np.abs(mesh.vertices[:, 2]) < 0.9 * mesh.vertices[:, 2].max()
    cosine = (flat * mesh.normals).sum(1)[inner]
    assert cosine.min() > 0.998
    assert np.abs(np.linalg.norm(mesh.normals, axis=1) - 1).max() < 1e-5
    for values in (mesh.colour, mesh.metallic, mesh.roughness):
        assert values.min() >= 0 and values.max() <= 1 and len(values) == len(mesh.vertices)


def test_without_a_change_the_mesh_stays():
    mesh = ellipsoid()
    same = SAME.mesh(mesh)
    for field in ("vertices", "normals", "colour", "metallic", "roughness"):
        np.testing.assert_allclose(getattr(same, field), getattr(mesh, field), atol=2e-6)


def test_no_likeness_is_larger_and_the_twist_keeps_heights():
    mesh = ellipsoid()
    for seed in range(20):
        likeness = random_likeness(np.random.default_rng(seed))
        placed, _ = likeness.placed(mesh.vertices, mesh.normals)
        assert np.linalg.norm(placed, axis=1).max() <= 0.9 + 1e-6
        np.testing.assert_allclose(placed[:, 2], mesh.vertices[:, 2] * likeness.stretch[2], 1e-5)


def test_a_reversal_makes_dark_light_and_keeps_greys_grey():
    greys = np.repeat([[0.05], [0.5], [0.9]], 3, 1)
    other = replace(SAME, reversed=True).colour(greys)
    assert (np.diff(other[:, 0]) < 0).all() and np.ptp(other, axis=1).max() < 1e-9
    np.testing.assert_allclose(replace(SAME, reversed=True).colour(other), greys, atol=1e-6)


def test_metal_becomes_paint_or_changes_places():
    mesh = ellipsoid()
    assert replace(SAME, metal="paint").mesh(mesh).metallic.max() == 0
    np.testing.assert_array_equal(
        replace(SAME, metal="exchanged").mesh(mesh).metallic, 1 - mesh.metallic
    )


def test_what_a_defect_leaves_alone_looks_as_before():
    mesh, stained = ellipsoid(), ellipsoid()
    stained.colour[:50] = (0.3, 0.1, 0.05)
    likeness = random_likeness(np.random.default_rng(3))
    flawless, broken = likeness.mesh(mesh), likeness.mesh(stained)
    np.testing.assert_array_equal(flawless.colour[50:], broken.colour[50:])
    assert np.abs(flawless.colour[:50] - broken.colour[:50]).max(1).min() > 0.01


def test_the_material_keeps_what_the_likeness_does_not_name():
    changed = replace(SAME, specular=0.3, clearcoat=0.7).material({"specular": 0.6, "sheen": 0.1})
    assert changed == {"specular": 0.3, "clearcoat": 0.7, "sheen": 0.1}
