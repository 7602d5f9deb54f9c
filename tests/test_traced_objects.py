"""Random objects for the path tracer: meshes, light as a map, photographs; without Mitsuba."""

import math

import numpy as np
import pytest
import torch

from data.make import make_random_objects
from data.make.iso_surface import surface_nets
from data.make.make_random_objects import FOV_X, PathTracer, mesh_of
from piad import solid_objects
from piad.random_lights import MAP_HEIGHT, Softbox, query_light, radiance_map
from piad.random_objects import _with_print, random_object
from piad.random_shapes import Chain
from piad.reflectance_solids import Lamp, Light, Solids, see
from piad.solid_objects import hand_held


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float((torch.linalg.cross(a, b) * c).sum() / 6)


def edges(faces):
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return pairs.sort(1).values.unique(dim=0, return_counts=True)[1]


def test_a_hollow_ball_s_surface_is_closed_and_faces_outwards():
    def shell(points):
        return (points.norm(dim=1) - 0.6).abs() - 0.1

    vertices, faces = surface_nets(shell, 1.0, 0.03)
    assert (edges(faces) == 2).all()
    wanted = 4 / 3 * math.pi * (0.7**3 - 0.5**3)
    assert volume(vertices, faces) == pytest.approx(wanted, rel=0.01)
    assert shell(vertices).abs().max() < 1e-3
    assert vertices.norm(dim=1).min() < 0.51 < 0.69 < vertices.norm(dim=1).max()


def test_cells_are_as_small_as_asked_for_and_made_near_the_surface_alone():
    measured = []

    def ball(points):
        measured.append(len(points))
        return points.norm(dim=1) - 0.5

    vertices, faces = surface_nets(ball, 0.9, 0.01)
    length = (vertices[faces[:, 0]] - vertices[faces[:, 1]]).norm(dim=1)
    assert 0.005 < length.mean() < 0.015
    assert sum(measured) < (1.8 / 0.01) ** 3 / 4


def test_the_cube_is_large_enough():
    vertices, _ = surface_nets(lambda points: points.norm(dim=1) - 0.98, 1.0, 0.05)
    assert vertices.norm(dim=1).max() > 0.97


def test_a_mesh_has_the_object_s_surface_grain_and_materials(monkeypatch):
    monkeypatch.setattr(make_random_objects, "CELL", 5.0)
    scene = random_object(seeded(64))
    assert scene.paints and not scene.table
    mesh = mesh_of(scene)
    points = torch.from_numpy(mesh.vertices[::50])
    assert scene.distance(points).abs().quantile(0.97) < 3e-4  # all but at sharp corners
    colour, metal, roughness = scene.materials(points)
    np.testing.assert_allclose(mesh.colour[::50], colour.clamp(0.01, 0.95), atol=1e-5)
    np.testing.assert_allclose(mesh.metallic[::50], metal[:, 0], atol=1e-5)
    np.testing.assert_allclose(mesh.roughness[::50], roughness[:, 0].clamp(0.05, 1), atol=1e-5)
    np.testing.assert_allclose(mesh.normals[::50], scene.normals(points), atol=1e-4)
    assert mesh.faces.max() == len(mesh.vertices) - 1 and mesh.faces.dtype == np.uint32


def test_a_lamp_of_the_map_lights_a_white_surface_as_its_colour():
    direction = torch.tensor([0.6, 0.0, 0.8])
    rows = (0.5 - (torch.arange(MAP_HEIGHT) + 0.5) / MAP_HEIGHT) * math.pi
    azimuth = (torch.arange(2 * MAP_HEIGHT) + 0.5) / MAP_HEIGHT * math.pi
    elevation, azimuth = torch.meshgrid(rows, azimuth, indexing="ij")
    towards = torch.stack(
        [elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], 2
    )
    solid_angle = (math.pi / MAP_HEIGHT) ** 2 * elevation.cos()
    colour = torch.tensor([0.5, 1.0, 2.0])
    for lamp in (Lamp(direction, 0.2, colour), Softbox(direction, 0.1, colour, 2.0, 0.3, True)):
        light = Light(torch.ones(3), 0.0, 0.0, (lamp,), 0.4, torch.zeros(3))
        radiance = radiance_map(light)
        cosine = (towards @ direction).clamp_min(0)
        sent = (radiance * (cosine * solid_angle)[..., None]).sum((0, 1)) / math.pi
        torch.testing.assert_close(sent, colour, rtol=0.05, atol=0)
        brightest = towards.reshape(-1, 3)[radiance[..., 1].flatten().argmax()]
        assert brightest @ direction > 0.95


def test_ambience_of_the_map_goes_from_the_floor_to_the_sky():
    light = Light(torch.tensor([1.0, 0.5, 0.2]), 0.4, 0.1, (), 0.4, torch.zeros(3))
    radiance = radiance_map(light)
    torch.testing.assert_close(radiance[0, 0], 0.4 * light.ambience, rtol=1e-2, atol=0)
    torch.testing.assert_close(radiance[-1, 0], 0.1 * light.ambience, rtol=1e-2, atol=1e-3)
    assert (radiance == radiance[:, :1]).all()


def test_print_lies_on_the_surface():
    scene = random_object(seeded(4))
    view = see(scene, hand_held(scene, seeded(1)), 64)
    index = int(view.facing[:, 0].argmax())
    place, normal = view.points[index], Solids.normals(scene, view.points[index : index + 1])[0]
    printed = _with_print(scene, place, normal, 0.2, seeded(7))
    signs = [paint.shape for paint in printed.paints[len(scene.paints) :]]
    assert 2 <= len(signs) <= 7 and all(isinstance(sign, Chain) for sign in signs)
    points = torch.cat([sign.points for sign in signs])
    assert scene.distance(points).abs().median() < 5e-3
    assert torch.equal(printed.distance(view.points), scene.distance(view.points))
    changed = (printed.materials(points)[0] - scene.materials(points)[0]).abs().amax(1) > 0
    assert changed.float().mean() > 0.8


class Canvas:
    """Stands for the path tracer's stage: half the image is hit, as bright as the map."""

    made = []

    def __init__(self, shapes):
        self.made.append(self)

    def surround(self, radiance):
        assert radiance.shape == (MAP_HEIGHT, 2 * MAP_HEIGHT, 3)
        self.brightness = radiance.mean()

    def trace(self, camera_to_world, size, samples, seed, fov_x):
        assert fov_x == FOV_X and camera_to_world.shape == (4, 4)
        layers = np.zeros((*size, 10), np.float32)
        layers[: size[0] // 2, :, :3] = self.brightness
        layers[: size[0] // 2, :, 3] = 1
        return layers


@pytest.fixture
def canvas(monkeypatch):
    monkeypatch.setattr(Canvas, "made", [])
    monkeypatch.setattr(make_random_objects, "Stage", Canvas)
    monkeypatch.setattr(make_random_objects, "denoised", lambda rgb, albedo, normal: rgb)
    monkeypatch.setattr(make_random_objects, "mesh_of", lambda scene: None)
    return Canvas


def test_photographs_are_metered_and_of_one_exposure_where_a_gain_is_given(canvas):
    scene, light = random_object(seeded(0)), query_light(False, seeded(1))
    take = PathTracer(4, seeded(2))
    take.noise = 0.0
    pose = hand_held(scene, seeded(3))
    image, gain = take(scene, pose, None, light, None, seeded(4))
    side = image.shape[-1]
    assert image.shape == (3, side, side)
    lit, backdrop = image[:, : side // 2], image[:, side // 2 :]
    assert (lit == lit[:, :1, :1]).all() and (backdrop == backdrop[:, :1, :1]).all()
    again, same = take(scene, pose, None, light, 0.5 * gain, seeded(4))
    assert same == 0.5 * gain and (again[:, 0, 0] < image[:, 0, 0]).all()
    assert torch.equal(again[:, -1, -1], image[:, -1, -1])  # the backdrop is as the light has it


def test_the_flawless_stage_stays_and_each_defect_has_its_own(canvas):
    scene, light = random_object(seeded(0)), query_light(False, seeded(1))
    take, pose = PathTracer(4, seeded(2)), torch.eye(4)
    broken = [scene.changed(room=scene.room) for _ in range(2)]
    for shown in (scene, scene, broken[0], broken[0], broken[1], scene):
        take(shown, pose, None, light, None, seeded(4))
    assert len(canvas.made) == 3


def test_an_object_is_written_through_the_tracer(canvas, tmp_path, monkeypatch):
    small = {"SIDE": 48, "GALLERY_VIEWS": 3, "FLAWLESS": 1, "DEFECTIVE": 1}
    for name, value in small.items():
        monkeypatch.setattr(solid_objects, name, value)
    monkeypatch.setattr(make_random_objects, "SIDE", 48)
    make_random_objects.main([str(tmp_path), "--count", "1", "--samples", "4", "--seed", "3"])
    folder = tmp_path / "object_000"
    assert len(list(folder.glob("train/*.png"))) == 3
    assert (folder / "transforms_test.json").is_file()
    marked = (folder / "transforms.json").stat().st_mtime_ns
    make_random_objects.main([str(tmp_path), "--count", "1", "--samples", "4", "--seed", "3"])
    assert (folder / "transforms.json").stat().st_mtime_ns == marked  # what is there stays
