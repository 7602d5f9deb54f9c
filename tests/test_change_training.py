"""Random objects for the change net, and its training."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from gaussian_renderer.errors import UserError
from piad import change_data, solid_objects, train_change
from piad.anomaly import DetectConfig
from piad.change_data import packed, unpacked
from piad.change_net import KINDS, ChangeNet, read_change_net
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
from piad.train_change import (
    Batch,
    augmented,
    balanced_batches,
    image_logits,
    load_examples,
    loss_of,
    measures,
    train,
    train_averaged,
)
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


def made_up(path, seed, count=12, side=32):
    """Examples in which a change is what two maps say and the others don't."""
    generator = seeded(seed)

    def random(*shape):
        return torch.rand(count, *shape, generator=generator)

    maps, images = 0.3 * random(24, side // 4, side // 4), 0.1 * random(13, side // 2, side // 2)
    mask = torch.zeros(count, 1, side // 2, side // 2, dtype=torch.uint8)
    label = (torch.arange(count) % 2).long()
    for k in label.nonzero()[:, 0].tolist():
        row, column = torch.randint(0, side // 4 - 3, (2,), generator=generator).tolist()
        maps[k, :2, row : row + 3, column : column + 3] += 1.5
        mask[k, 0, 2 * row : 2 * row + 6, 2 * column : 2 * column + 6] = 1
        # elsewhere a lamp: all other maps are large
    lamp = torch.randint(0, side // 4 - 3, (count, 2), generator=generator).tolist()
    for k, (row, column) in enumerate(lamp):
        maps[k, 2:12, row : row + 3, column : column + 3] += 1.5
    kept = {"maps": maps, "images": images, "surface": random(2, side // 4, side // 4)}
    kept = {name: part.half() for name, part in kept.items()} | {"mask": mask, "label": label}
    for layer, (channels, step) in enumerate(((6, 4), (8, 8), (10, 16))):
        change = random(channels, side // step, side // step) - 0.5
        kept[f"changes_{layer}"] = packed(change)
    torch.save(kept, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_what_distances_alone_do_not_tell(tmp_path, kind):
    paths = [made_up(tmp_path / f"{seed}.pt", seed) for seed in range(4)]
    data = load_examples(paths, torch.device("cpu"))
    torch.manual_seed(0)
    net = ChangeNet(channels=(6, 8, 10), width=8, fine=8, kinds=[kind])
    aside = data["group"] == 0
    train(net.members[0], data, (~aside).nonzero()[:, 0], steps=80, batch=8)
    found = measures(net, data, aside.nonzero()[:, 0])
    assert found["net"]["pixel_ap"] > 0.8 > 0.5 > found["distances"]["pixel_ap"]
    assert found["net"]["image_auroc"] > 0.9


def test_batches_hold_flawless_and_defective_images_of_the_same_objects():
    label = torch.tensor([0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1])
    group = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    chosen = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 9, 10])
    draw = balanced_batches({"label": label, "group": group}, chosen)
    seen = set()
    for _ in range(20):
        found = draw(12)
        seen |= set(found.tolist())
        assert label[found].tolist() == [0, 0, 1, 1] * 3
        assert (group[found].reshape(3, 4).amin(1) == group[found].reshape(3, 4).amax(1)).all()
    assert seen == {3, 4, 5, 6, 7, 9, 10}  # object 0 has no defect, image 8 isn't chosen


def test_as_many_objects_of_another_kind_are_drawn_as_wanted():
    label, group = torch.arange(80) % 2, torch.arange(80) // 4
    draw = balanced_batches({"label": label, "group": group}, torch.arange(80), 4, 0.75)
    torch.manual_seed(0)
    numbers = group[torch.cat([draw(24) for _ in range(200)])]
    assert (numbers >= 4).float().mean() == pytest.approx(0.75, abs=0.04)
    assert set(numbers.tolist()) == set(range(20))
    others = torch.arange(16, 80)  # none of the first kind is chosen
    assert (balanced_batches({"label": label, "group": group}, others, 4, 0.1)(24) >= 16).all()


def test_augmentation_keeps_what_an_example_holds_together():
    torch.manual_seed(0)
    coarsest = torch.rand(5, 1, 8, 8)
    coarse, fine, finest = (
        torch.nn.functional.interpolate(coarsest, scale_factor=k, mode="nearest") for k in (2, 4, 8)
    )
    changes = [fine.clone(), coarse.clone(), coarsest.clone()]
    batch = Batch(fine, finest.expand(-1, 13, -1, -1), fine, changes, finest, torch.ones(5))
    parts = set()
    for _ in range(8):
        found = augmented(batch)
        assert found.mask.shape == (5, 1, 48, 48) and found.changes[2].shape == (5, 1, 6, 6)
        parts.add(found.mask[0, 0, 0, 0].item())
        small = torch.nn.functional.avg_pool2d(found.mask, 2)
        torch.testing.assert_close(found.surface, small)
        torch.testing.assert_close(
            found.maps / found.maps.amax((2, 3), True), small / small.amax((2, 3), True)
        )
        seen = found.images.abs().sum((1, 2, 3)) > 0
        torch.testing.assert_close(found.images[seen][:, 12:], found.mask[seen])
        for change in found.changes:
            assert ((change == 0).all((1, 2, 3)) == (found.changes[0] == 0).all((1, 2, 3))).all()
            kept = change[change.abs().sum((1, 2, 3)) > 0]
            own = torch.nn.functional.interpolate(kept, (48, 48), mode="nearest")
            same = found.mask[change.abs().sum((1, 2, 3)) > 0]
            torch.testing.assert_close(own / own.amax((2, 3), True), same / same.amax((2, 3), True))
    assert len(parts) > 1


def test_a_part_without_the_defect_is_flawless():
    torch.manual_seed(0)
    mask = torch.zeros(4, 1, 64, 64)
    mask[:, :, :4, :4] = 1  # in a corner
    maps, images = torch.zeros(4, 24, 32, 32), torch.zeros(4, 13, 64, 64)
    changes = [torch.zeros(4, 2, side, side) for side in (32, 16, 8)]
    batch = Batch(maps, images, maps[:, :2], changes, mask, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    labels = [augmented(batch) for _ in range(20)]
    assert {int(found.label.sum()) for found in labels} == {0, 3}
    for found in labels:
        assert (found.label.sum() > 0) == bool(found.mask.any())


def test_changes_are_kept_in_a_byte_each():
    change = torch.cat([torch.linspace(-2, 2, 401), torch.tensor([1e-4, 5.0])])
    kept = packed(change)
    assert kept.dtype == torch.int8
    again, true = unpacked(kept), change.clamp(-2, 2)
    assert ((again - true).abs() <= 0.02 * (2 * true.abs()).sqrt() + 1e-3).all()


def test_the_loss_prefers_the_truth():
    mask = torch.zeros(2, 1, 40, 40)
    mask[1, :, 10:20, 10:20] = 1
    label = torch.tensor([0.0, 1.0])
    right, wrong = 6 * mask - 3, 3 - 6 * mask
    assert loss_of(right, mask, label) < 0.5 * loss_of(torch.zeros_like(mask), mask, label)
    assert loss_of(wrong, mask, label) > loss_of(torch.zeros_like(mask), mask, label)
    assert image_logits(right).tolist() == pytest.approx([-3, 3])


def test_a_missed_crack_costs_more_for_each_pixel_than_a_missed_stain():
    label = torch.ones(1)
    masks = torch.zeros(2, 1, 1, 100, 100)
    masks[0, ..., 40:42, 20:60] = 1  # 80 px
    masks[1, ..., 20:60, 20:60] = 1  # 1600 px
    missed = [float(loss_of(torch.full_like(own, -3.0), own, label) / own.sum()) for own in masks]
    assert missed[0] > 3 * missed[1]


def test_runs_from_the_same_weights_are_averaged():
    net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    began, ends = [], iter((2.0, 4.0))

    def learn():
        began.append(net[0].weight.item())
        net[0].weight.data.fill_(next(ends))
        net[1].num_batches_tracked += 1

    net[0].weight.data.fill_(1.0)
    train_averaged(net, learn, runs=2, keep=0.5)
    assert began == [1.0, 1.0]
    assert net[0].weight.item() == pytest.approx(0.5 * 1 + 0.25 * 2 + 0.25 * 4)
    ends = iter((5.0,))
    train_averaged(net, learn, runs=1, keep=0.0)
    assert net[0].weight.item() == 5.0


def test_training_goes_on_from_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train_change, "HELD_OUT", 2)
    for number in range(4):
        folder = tmp_path / f"objects/object_{number}"
        folder.mkdir(parents=True)
        (folder / "transforms_test.json").write_text("{}")
        made_up(folder / train_change.KEPT, number)
    start, end = tmp_path / "start.safetensors", tmp_path / "end.safetensors"
    monkeypatch.setattr(train_change, "load_features", lambda *_: SimpleNamespace(name="some"))
    torch.manual_seed(0)
    net = ChangeNet(channels=(6, 8, 10), width=8, fine=4)
    net.save(start, "some", DetectConfig())
    common = [str(tmp_path / "objects"), "--device", "cpu", "--steps", "2", "--batch", "8"]
    going_on = ["--start", str(start), "--kinds", "changes", "--runs", "2", "--keep", "0.5"]
    train_change.main([*common, *going_on, "--output", str(end)])
    (before, _), (after, about) = read_change_net(start), read_change_net(end)
    assert about["features"] == "some"
    same = [
        all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
        for old, new in zip(before.members, after.members, strict=True)
    ]
    assert same == [KINDS[0] == "surface", KINDS[1] == "surface"]
    with pytest.raises(UserError, match="--start"):
        train_change.main([*common, "--runs", "2"])


def test_objects_of_another_kind_join_in_and_those_left_out_are_measured(tmp_path, monkeypatch):
    names = {"objects": ["object_0", "object_1", "object_2"], "hand": ["Cup_1", "Cup_2", "Fork_1"]}
    for root, own in names.items():
        for number, name in enumerate(own):
            folder = tmp_path / root / name
            folder.mkdir(parents=True)
            (folder / "transforms_test.json").write_text("{}")
            made_up(folder / train_change.KEPT, number)
    monkeypatch.setattr(train_change, "HELD_OUT", 3)  # the first object, and the first of a kind
    monkeypatch.setattr(train_change, "load_features", lambda *_: SimpleNamespace(name="some"))
    taught, measured = [], []

    def learn(net, data, chosen, steps, batch, rate, beside, share):
        taught.append((sorted(set(data["group"][chosen].tolist())), beside, share))

    def measure(net, data, chosen):
        measured.append(sorted(set(data["group"][chosen].tolist())))
        return {}

    monkeypatch.setattr(train_change, "train", learn)
    monkeypatch.setattr(train_change, "measures", measure)
    beside = ["--beside", str(tmp_path / "hand"), "--share", "0.3", "--leave-out", "Cup"]
    common = ["--device", "cpu", "--width", "8", "--output", str(tmp_path / "end.safetensors")]
    train_change.main([str(tmp_path / "objects"), *beside, *common])
    assert taught == [([1, 2, 5], 3, 0.3)] * 2 and measured == [[0, 3, 4]]
    with pytest.raises(UserError, match="--leave-out Plate: .* there are Cup, Fork, object"):
        train_change.main([str(tmp_path / "objects"), *beside, "Plate", *common])
    with pytest.raises(UserError, match="holds no object; .*make_training_objects"):
        train_change.main([str(tmp_path / "objects"), "--beside", str(tmp_path / "no"), *common])


def test_examples_of_another_size_are_named(tmp_path):
    paths = [tmp_path / "large.pt", tmp_path / "small.pt"]
    for path, side in zip(paths, (48, 32), strict=True):
        made_up(path, 0, side=side)
    with pytest.raises(UserError, match="small.pt holds examples of 32 px.*of 48 px; remove"):
        load_examples(paths, torch.device("cpu"))


def test_too_few_objects_are_named(tmp_path):
    with pytest.raises(UserError, match="0 objects.*at least 20.*solid_objects"):
        train_change.main([str(tmp_path), "--device", "cpu"])


def test_objects_are_enlarged_differently_but_their_examples_are_of_one_size():
    zooms = [train_change.zoom_of(Path(f"object_{k:03}")) for k in range(200)]
    low, high = train_change.ZOOMS
    assert low <= min(zooms) < low + 0.02 and high - 0.02 < max(zooms) <= high
    assert sum(zoom < (low * high) ** 0.5 for zoom in zooms) in range(80, 121)
    sides = {round(round(change_data.SIDE / zoom) * zoom / 16) * 16 for zoom in zooms}
    assert sides == {change_data.SIDE}
    assert max(round(change_data.SIDE / zoom) for zoom in zooms) <= solid_objects.SIDE


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
