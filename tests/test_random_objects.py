"""Random objects for the change net: shapes, defects, photographs, what it is shown of them."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from piad import solid_objects, train_change
from piad.config import PoseConfig
from piad.random_defects import KINDS as DEFECTS
from piad.random_defects import LINES, PART_KINDS, random_defect
from piad.random_objects import random_object
from piad.random_shapes import (
    NEAR,
    SOCKET_STEPS,
    Chain,
    Coil,
    Part,
    Socket,
    Stack,
    nearby_distances,
    random_blob,
)
from piad.reflectance_solids import KINDS as SOLID_KINDS
from piad.reflectance_solids import Solid, Solids, random_solid, see
from piad.scenes import load_scene
from piad.solid_objects import changed_surface, hand_held, write_object
from piad.true_poses import true_query_cameras

SMALL = {"SIDE": 48, "GALLERY_VIEWS": 5, "FLAWLESS": 2, "DEFECTIVE": 4, "LIGHTS": 2}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One small object with few photographs."""
    root = tmp_path_factory.mktemp("objects")
    patch = pytest.MonkeyPatch()
    for name, value in SMALL.items():
        patch.setattr(solid_objects, name, value)
    write_object(root / "object_000", seeded(4))
    patch.undo()
    return root / "object_000"


def test_an_object_reads_as_a_mip_class(folder):
    options = {"class_name": folder.name, "data_dir": folder.parent, "dataset_type": "MIP"}
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    scene = load_scene(PoseConfig.from_command_line(arguments).data, folder.name)
    assert len(scene.gallery) == 5 and scene.has_masks
    labels = [query.label for query in scene.queries]
    assert labels.count(0) == 4 and labels.count(1) in (2, 4, 6, 8)
    assert set(true_query_cameras(scene)) == {query.id for query in scene.queries}
    for query in scene.queries:
        share = query.mask().float().mean()
        assert (share == 0) == (query.label == 0) and share < 0.2
    frames = json.loads((folder / "transforms_test.json").read_text())["frames"]
    assert {frame["light"] for frame in frames} <= {"A", "other"}
    first, second = frames[:2]  # one view under two lights
    assert first["transform_matrix"] == second["transform_matrix"]
    first, second = (scene.queries[k].image() for k in range(2))
    assert (first - second).abs().mean() > 0.01


def test_an_object_is_its_seed_s(tmp_path, monkeypatch):
    for name, value in (SMALL | {"GALLERY_VIEWS": 1, "FLAWLESS": 1, "DEFECTIVE": 0}).items():
        monkeypatch.setattr(solid_objects, name, value)
    photographs = []
    for name, seed in {"first": 1, "again": 1, "other": 2}.items():
        write_object(tmp_path / name, seeded(seed))
        photographs.append(Image.open(tmp_path / name / "train/000.png").tobytes())
    assert photographs[0] == photographs[1] != photographs[2]


def test_a_coil_s_wire_winds_about_its_axis():
    solid = vars(random_solid(seeded(0))) | {"axes": torch.eye(3), "centre": torch.zeros(3)}
    coil = Coil(**solid, radius=0.4, wire=0.03, pitch=0.2, count=2)
    turns = torch.linspace(-2.4, 2.4, 97)
    angle = 2 * torch.pi * turns
    middle = torch.stack([0.4 * angle.cos(), 0.4 * angle.sin(), 0.2 * turns], 1)
    torch.testing.assert_close(coil.distance(middle), torch.full((97,), -0.03), atol=1e-5, rtol=0)
    between = coil.distance(middle + torch.tensor([0.0, 0.0, 0.1]))[:-20]
    torch.testing.assert_close(between, torch.full((77,), 0.07), atol=1e-3, rtol=0)
    assert coil.distance(torch.tensor([[0.0, 0.0, 0.9]])) > 0.3  # beyond its ends


def test_solids_are_measured_together_as_one_by_one():
    kinds = set()
    for seed in range(16):
        scene, points = random_object(seeded(seed)), torch.randn(200, 3, generator=seeded(seed))
        alone = torch.stack([solid.distance(points) for solid in scene.solids])
        torch.testing.assert_close(scene.parts(points), alone, atol=1e-5, rtol=0)
        kinds |= {type(solid) if type(solid) is not Solid else solid.kind for solid in scene.solids}
    assert kinds == {*SOLID_KINDS, Stack, Coil, Part}


def small_part(kind, generator):
    """A small part of a kind of solid."""
    return Part(**vars(random_solid(generator)) | {"kind": kind}, scale=0.2)


@pytest.mark.parametrize("kind", SOLID_KINDS)
def test_a_socket_is_its_part_s_shape_drawn_inwards(kind):
    part, points = small_part(kind, seeded(2)), 0.1 * torch.randn(500, 3, generator=seeded(3))
    half = part.scale * float(part.size.amin())
    socket = Socket(part, 4 * half)
    within = part.distance(part.centre + points) < 0
    assert 10 < within.sum() < 490
    # where it is and behind it
    inwards = torch.linspace(0, -4 * half, SOCKET_STEPS)[:, None] * part.axes[2]
    for shift in inwards:
        assert (socket.distance(part.centre + points + shift)[within] < 0).all()
    outside = part.centre + points + 0.5 * part.axes[2]
    assert (socket.distance(outside) > 0).all()
    beyond = part.centre + points + 2 * inwards[-1] - 0.5 * part.axes[2]
    assert (socket.distance(beyond) > 0).all()


def test_a_far_detail_is_no_nearer_than_its_ball():
    generator = seeded(4)
    shapes = [random_blob(torch.randn(3, generator=generator), 0.2, generator) for _ in range(3)]
    shapes.append(Chain(torch.rand(5, 3, generator=generator), 0.02))
    shapes.append(Socket(small_part("box", seeded(1)), 0.1))
    points = 0.8 * torch.randn(2000, 3, generator=generator)
    found = nearby_distances(shapes, points)
    for own, shape in zip(found.unbind(1), shapes, strict=True):
        reach = (points - shape.ball[0]).norm(dim=1) - shape.ball[1]
        true, near = shape.distance(points), reach < NEAR
        assert 0 < near.sum() < 2000
        torch.testing.assert_close(own[near], true[near], atol=1e-6, rtol=0)
        torch.testing.assert_close(own[~near], reach[~near], atol=1e-6, rtol=0)
        if isinstance(shape, Chain | Socket):  # a blob's own distance is none far away
            assert (own <= true + 1e-5).all()


def test_a_changed_object_is_another():
    flawless = random_object(seeded(5))
    points = torch.randn(50, 3, generator=seeded(5))
    before = flawless.parts(points)
    moved = [replace(solid, centre=solid.centre + 1.0) for solid in flawless.solids]
    broken = flawless.changed(solids=moved)
    assert not torch.allclose(broken.parts(points), before)
    torch.testing.assert_close(broken.parts(points + 1.0), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(flawless.parts(points), before)


@pytest.mark.parametrize("kind", sorted(set(DEFECTS)))
def test_a_defect_changes_the_surface_at_its_place_and_nowhere_far(kind):
    generator = seeded(3)
    flawless = random_object(generator)
    changed_anywhere, side = False, 288 if kind in LINES else 96
    for _ in range(4):
        pose = hand_held(flawless, generator)
        before = see(flawless, pose, side)
        owner = flawless.parts(before.points).argmin(0)
        free = (owner < flawless.own_solids) & (before.facing[:, 0] > 0.5)
        index = int(free.nonzero()[len(free.nonzero()) // 2])
        place = before.points[index], before.normals[index]
        broken = random_defect(flawless, kind, *place, generator)
        views = before, see(broken, pose, side)
        changed = changed_surface(*views)
        changed_anywhere |= bool((changed > 0.3).any())
        if kind != "bent":  # a part that moved changes as a whole
            far = torch.ones(2, side, side)
            for own, view in zip(far, views, strict=True):
                own[view.hit] = ((view.points - place[0]).norm(dim=1) > 1.0).float()
            far = torch.nn.functional.avg_pool2d(far, 2).amin(0, keepdim=True)
            far = -torch.nn.functional.max_pool2d(-far, 5, 1, 2)[0] == 1  # holes are closed
            assert not changed[far].any()
    assert changed_anywhere


@pytest.mark.parametrize("kind", PART_KINDS)
def test_a_small_part_is_lost_or_turned_and_nothing_else_changes(kind):
    flawless = random_object(seeded(26))
    numbers = [k for k, solid in enumerate(flawless.solids) if type(solid) is Part]
    assert len(numbers) > 3 and not flawless.table
    number = numbers[1]
    part, points = flawless.solids[number], torch.randn(300, 3, generator=seeded(0))
    before = flawless.parts(points)
    broken = random_defect(flawless, kind, part.centre, part.axes[2], seeded(1))
    after, others = broken.parts(points), torch.arange(len(before)) != number
    if kind == "lost":
        torch.testing.assert_close(after, before[others])
        torch.testing.assert_close(broken.grains, flawless.grains[others])
        return
    torch.testing.assert_close(after[others], before[others])
    assert not torch.allclose(after[number], before[number])
    moved = broken.solids[number]
    torch.testing.assert_close(moved.axes @ moved.axes.T, torch.eye(3), atol=1e-5, rtol=0)
    assert (moved.centre - part.centre).norm() < part.scale * part.size.amax()


def test_a_small_part_stands_on_the_surface_along_its_normal():
    scene = random_object(seeded(25))
    large = [solid for solid in scene.solids if type(solid) is not Part]
    for part in (solid for solid in scene.solids if type(solid) is Part):
        gap = torch.stack([solid.distance(part.centre[None]) for solid in large]).amin()
        assert -0.02 < gap < 0.9 * part.scale * part.size[2] + 0.02
        ahead = part.centre + 0.05 * part.axes[2]
        assert torch.stack([solid.distance(ahead[None]) for solid in large]).amin() > gap


def test_paint_fades_to_its_edge():
    scene = random_object(seeded(7))
    blob = random_blob(torch.zeros(3), 0.3, seeded(0))
    painted = scene.with_paint(blob, seeded(1), fade=0.5 * float(blob.radii.min()))
    points = 0.3 * torch.randn(500, 3, generator=seeded(2))
    before, after = scene.materials(points)[0], painted.materials(points)[0]
    change, depth = (after - before).abs().amax(1), -blob.distance(points)
    assert (change[depth < 0] == 0).all() and (change[depth > 0] > 0).any()
    paint = painted.paints[-1]
    share = paint.share * (depth / paint.fade).clamp(0, 1)[:, None]
    torch.testing.assert_close(after, before + share * (paint.colour - before))
    dark = scene.with_dark(blob, seeded(1)).materials(points)[0]
    assert dark[depth > 0.01].amax() < before[depth > 0.01].amax()


def test_cones_find_what_rays_find():
    for seed in range(3):
        generator = seeded(seed)
        scene = random_object(generator)
        pose = hand_held(scene, generator)
        found = see(scene, pose, 64)
        origin = pose[:3, 3]
        rays = torch.nn.functional.normalize(found.points - origin, dim=1)
        depth, hit = Solids.march(scene, origin, rays)
        error = (origin + depth[:, None] * rays - found.points).norm(dim=1)
        assert hit.float().mean() > 0.99
        assert error.quantile(0.98) < 0.01


def test_an_object_is_taught_and_compared_once(folder):
    path = train_change.teach(folder, torch.device("cpu"))
    found = torch.load(path, weights_only=True)
    count = len(found["label"])
    side = round(SMALL["SIDE"] * train_change.zoom_of(folder) / 16)  # once enlarged, of strides 16
    assert found["maps"].shape == (count, 24, 4 * side, 4 * side)
    assert found["surface"].shape == (count, 2, 4 * side, 4 * side)
    assert found["images"].shape == (count, 13, 8 * side, 8 * side)
    sizes = [found[f"changes_{layer}"].shape[1:] for layer in range(3)]
    assert sizes == [(48, 4 * side, 4 * side), (96, 2 * side, 2 * side), (240, side, side)]
    assert found["mask"].shape == (count, 1, 8 * side, 8 * side)
    assert found["mask"].flatten(1).amax(1).tolist() == found["label"].tolist()
    assert found["maps"].isfinite().all() and (found["maps"] >= 0).all()
    coverage = found["images"][:, 12]
    assert coverage.min() < 0.1 and coverage.max() > 0.9  # the object is there, and the backdrop
    before = path.stat().st_mtime_ns
    assert train_change.teach(folder, torch.device("cpu")).stat().st_mtime_ns == before
