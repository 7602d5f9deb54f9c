"""The shipped example objects: layout, numbers, masks; and the generator's arithmetic."""

import json
import struct
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.make import (
    baseball,
    board,
    bottle,
    brick_bird,
    brick_elephant,
    bulb,
    cameras,
    can,
    caster,
    clamp,
    dog_collar,
    door_handle,
    drum,
    fan,
    fork,
    gamepad,
    gear,
    glasses,
    grinder,
    hammer,
    headphones,
    key,
    knight,
    lights,
    locomotive,
    masks,
    mug,
    nozzle,
    objects,
    padlock,
    paper_cup,
    photo,
    pliers,
    plug,
    reconstruct,
    remote,
    scissors,
    shoe,
    switch,
    tap,
    toy_car,
    usb_stick,
    watch,
)
from data.make.queries import plan_queries

DATA = Path(__file__).parents[1] / "data"
SPRING, JOINT = DATA / "MIP/Spring", DATA / "Colmap/05Joint"
OBJECTS = {
    # folder, image suffix, size, defect kinds
    "Spring": (SPRING, ".png", (400, 400), {"burr", "missing", "bent", "stain"}),
    "05Joint": (JOINT, ".jpg", (800, 600), {"missing", "stain", "crack"}),
}
both_objects = pytest.mark.parametrize("name", OBJECTS)


def query_records(name):
    if name == "Spring":
        return json.loads((SPRING / "transforms_test.json").read_text())["frames"]
    return json.loads((JOINT / "poses_true.json").read_text())["test"]


def kind_of(record):
    return record["file_path"].split("/")[1]


@both_objects
def test_every_query_has_a_record_and_every_record_a_query(name):
    root, suffix, size, _ = OBJECTS[name]
    files = {p.relative_to(root).with_suffix("").as_posix() for p in root.glob(f"test/*/*{suffix}")}
    records = [r["file_path"].removesuffix(suffix) for r in query_records(name)]
    assert len(records) == len(set(records)) and set(records) == files
    for file in files:
        with Image.open((root / file).with_suffix(suffix)) as image:
            assert image.size == size and image.mode == "RGB"


@both_objects
def test_there_are_enough_queries_of_each_kind_and_light(name):
    by_kind = defaultdict(list)
    for record in query_records(name):
        by_kind[kind_of(record)].append(record["light"])
    flawless = {kind: found for kind, found in by_kind.items() if kind.startswith("good_")}
    assert sum(map(len, by_kind.values())) >= 40
    assert sum(map(len, flawless.values())) >= 12
    assert set(flawless) == {f"good_{light}" for light in "ABCDE"}
    for kind, found in flawless.items():
        assert set(found) == {kind[-1]}
    assert set(by_kind) - set(flawless) == OBJECTS[name][3]
    for kind in OBJECTS[name][3]:
        assert len(set(by_kind[kind])) >= 3


@both_objects
def test_masks_are_binary_and_cover_the_recorded_share(name):
    root, _, size, kinds = OBJECTS[name]
    expected = {}
    for record in query_records(name):
        if kind_of(record) in kinds:
            stem = Path(record["file_path"]).stem
            expected[root / "ground_truth" / kind_of(record) / f"{stem}.png"] = record
    assert set(root.glob("ground_truth/*/*")) == set(expected)
    for path, record in expected.items():
        mask = np.asarray(Image.open(path))
        assert mask.shape == size[::-1] and set(np.unique(mask)) == {0, 255}
        assert (mask == 255).mean() == pytest.approx(record["mask_fraction"], abs=1e-9)
        assert 0.0015 <= record["mask_fraction"] <= 0.08


@both_objects
def test_defects_of_a_kind_differ(name):
    by_kind = defaultdict(list)
    for record in query_records(name):
        if "defect" in record:
            by_kind[kind_of(record)].append(json.dumps(record["defect"], sort_keys=True))
    assert set(by_kind) == OBJECTS[name][3]
    for found in by_kind.values():
        assert len(set(found)) == len(found)


@both_objects
def test_an_object_stays_under_twenty_megabytes(name):
    assert sum(p.stat().st_size for p in OBJECTS[name][0].rglob("*") if p.is_file()) < 20e6


@both_objects
def test_query_poses_are_rigid_and_look_at_the_object(name):
    for record in query_records(name):
        pose = np.array(record["transform_matrix"])
        rotation, eye = pose[:3, :3], pose[:3, 3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) > 0
        assert -rotation[:, 2] @ -eye / np.linalg.norm(eye) > np.cos(np.radians(8))


def test_spring_gallery_is_complete():
    frames = json.loads((SPRING / "transforms.json").read_text())["frames"]
    listed = {f["file_path"] + ".png" for f in frames}
    assert len(frames) == 60
    assert listed == {p.relative_to(SPRING).as_posix() for p in SPRING.glob("train/*")}


def test_joint_model_agrees_with_the_true_poses():
    pytest.importorskip("pycolmap")
    errors = reconstruct.centre_errors(JOINT / "sparse/0", JOINT / "poses_true.json")
    assert len(errors) == 40
    assert errors.max() < 0.005  # worst seen 0.0030, at 4.3 units from the object


def make_image_record(image_id, points):
    head = struct.pack("<I7dI", image_id, 1, 0, 0, 0, 0, 0, 0, 1) + b"photo.jpg\0"
    keypoints = b"".join(struct.pack("<2dq", k, 0, point) for k, point in enumerate(points))
    return head + struct.pack("<Q", len(points)) + keypoints


def test_pruning_renumbers_the_tracks():
    images = struct.pack("<Q", 2) + make_image_record(7, [-1, 5, -1, 6])
    images += make_image_record(9, [6, -1])
    points = struct.pack("<Q", 1) + struct.pack("<Q3d3Bd", 6, 1, 2, 3, 4, 5, 6, 0.5)
    points += struct.pack("<Q", 2) + struct.pack("<4I", 7, 3, 9, 0)
    pruned_images, pruned_points = reconstruct.prune_keypoints(images, points)
    first = make_image_record(7, [5, 6])
    assert len(pruned_images) == 8 + len(first) + len(make_image_record(9, [6]))
    assert struct.unpack("<4I", pruned_points[-16:]) == (7, 1, 9, 0)
    assert pruned_points[:-16] == points[:-16]


def test_similarity_is_recovered():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((9, 3))
    turn = cameras.look_at([1, 2, 3.0])[:3, :3]
    scale, rotation, shift = reconstruct.similarity(source, 1.7 * source @ turn.T + [1, -2, 3])
    assert scale == pytest.approx(1.7)
    assert np.allclose(rotation, turn) and np.allclose(shift, [1, -2, 3])


def test_look_at_puts_the_target_on_the_axis():
    eye, target = np.array([1.0, -2.0, 0.5]), np.array([0.1, 0.2, 0.3])
    pose = cameras.look_at(eye, target, roll=0.4)
    local = pose[:3, :3].T @ (target - eye)
    assert np.allclose(local, [0, 0, -np.linalg.norm(target - eye)])


def test_directions_near_an_axis_stay_in_the_cap():
    rng = np.random.default_rng(1)
    axis = np.array([0, 0.6, 0.8])
    found = np.array([cameras.direction_near(axis, 0.5, rng) for _ in range(200)])
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert (found @ axis).min() >= np.cos(0.5) - 1e-12
    assert (found @ axis).min() < np.cos(0.45)  # the cap is filled to its rim


def test_softbox_shines_from_where_it_stands():
    light = lights.Light((lights.Softbox(90, 0, 10, 10, 50.0, 6500),), 0.0, 0.0, 6500, (0, 0, 0))
    image = lights.environment_map(light, 64)
    row, column = np.unravel_index(image.sum(-1).argmax(), image.shape[:2])
    assert abs(row - 31.5) < 3 and abs(column - 31.5) < 3  # a quarter of the way round, horizon


def test_colour_temperature_runs_from_red_to_blue():
    warm, cold = lights.blackbody_rgb(2900), lights.blackbody_rgb(9500)
    assert warm[0] > warm[1] > warm[2] and cold[2] > cold[0]
    assert lights.blackbody_rgb(6504) == pytest.approx(1.0, abs=0.06)  # white at D65's temperature


def test_tone_curve_is_srgb_below_the_knee_and_never_clips_above():
    assert photo.tone_curve(0.18) == pytest.approx(0.4614, abs=1e-4)
    bright = photo.tone_curve(np.array([0.8, 1.0, 1.3, 2.0]))
    assert (np.diff(bright) > 0).all() and bright.max() <= 1


def test_mask_closes_pinholes_and_drops_slivers():
    pytest.importorskip("scipy")
    changed = np.zeros((120, 120), bool)
    changed[30:90, 30:90] = True  # 20 x 20 px at an oversampling of 3
    changed[60:63, 60:63] = False
    changed[3:6, 3:60] = True  # 1 x 19 px: above the speck limit, under 5 % of the large island
    mask = masks.tidy_mask(changed, 3)
    assert mask.sum() == 400 and mask[10:30, 10:30].all()


def test_only_the_surface_counts_as_changed():
    shape = (1, 4)
    up = np.zeros((*shape, 3))
    up[..., 2] = 1
    grey = np.full((*shape, 3), 0.5)
    flawless = masks.Hits(np.array([[True, True, True, False]]), np.full(shape, 2.0), up, grey)
    hit, depth = flawless.hit.copy(), flawless.depth.copy()
    albedo = grey.copy()
    depth[0, 1] += 0.02
    albedo[0, 2] += 0.1
    hit[0, 3] = True
    changed = masks.changed_surface(flawless, masks.Hits(hit, depth, up, albedo))
    assert changed.tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("name", objects.OBJECTS)
def test_defects_are_plain_numbers_and_depend_on_their_seed_only(name):
    pytest.importorskip("scipy")
    module = objects.OBJECTS[name].load()
    for kind in objects.OBJECTS[name].defects:
        first, again, other = (
            module.random_defect(kind, np.random.default_rng(seed)) for seed in (3, 3, 4)
        )
        assert json.loads(json.dumps(first)) == again != other
        if not objects.OBJECTS[name].on_table:
            assert np.shape(module.defect_normal(first)) == (3,)
    with pytest.raises(ValueError, match="has no defect 'rust'"):
        module.random_defect("rust", np.random.default_rng(0))


def test_a_defective_board_differs_in_the_parts_it_names():
    whole = board.parts(None)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        missing = board.random_defect("missing", rng)
        assert [*whole[: missing["part"]], *whole[missing["part"] + 1 :]] == board.parts(missing)
        for kind in ("skewed", "bent"):
            defect = board.random_defect(kind, rng)
            made = board.parts(defect)
            moved = [k for k, part in enumerate(whole) if part != made[k]]
            count = int(defect.get("count", 1))
            assert moved == list(range(defect["part"], defect["part"] + count))
            assert all((whole[k].form == "pin") == (kind == "bent") for k in moved)


SOLIDS = [(padlock, kind) for kind in ("dent", "missing", "cut")]
SOLIDS += [(toy_car, kind) for kind in ("dent", "missing")]
SOLIDS += [(gear, kind) for kind in ("missing", "burr")]
SOLIDS += [(plug, kind) for kind in ("bent", "missing", "chip")]
SOLIDS += [(brick_bird, kind) for kind in ("burr", "missing")]
SOLIDS += [(brick_elephant, kind) for kind in ("burr", "missing")]
SOLIDS += [(usb_stick, kind) for kind in ("dent", "missing", "bent")]
SOLIDS += [(bottle, kind) for kind in ("missing", "dent")]
SOLIDS += [(clamp, kind) for kind in ("missing", "bent")]
SOLIDS += [(tap, kind) for kind in ("missing", "dent", "bent")]
SOLIDS += [(gamepad, kind) for kind in ("missing", "skewed")]
SOLIDS += [(glasses, kind) for kind in ("missing", "bent")]
SOLIDS += [(caster, kind) for kind in ("missing", "dent", "cut")]
SOLIDS += [(key, "missing")]
SOLIDS += [(remote, kind) for kind in ("missing", "skewed")]
SOLIDS += [(paper_cup, kind) for kind in ("dent", "tear", "missing")]
SOLIDS += [(knight, kind) for kind in ("chip", "missing")]
SOLIDS += [(shoe, "peeled")]
SOLIDS += [(grinder, kind) for kind in ("missing", "skewed", "dent")]
SOLIDS += [(fork, kind) for kind in ("missing", "bent")]
SOLIDS += [(scissors, "missing"), (pliers, "missing")]
SOLIDS += [(can, kind) for kind in ("dent", "pull")]
SOLIDS += [(hammer, "missing")]
SOLIDS += [(drum, kind) for kind in ("dent", "missing")]
SOLIDS += [(mug, "chip")]
SOLIDS += [(locomotive, "missing")]
SOLIDS += [(bulb, kind) for kind in ("dent", "missing")]
SOLIDS += [(switch, kind) for kind in ("skewed", "chip")]
SOLIDS += [(nozzle, kind) for kind in ("missing", "dent")]
SOLIDS += [(door_handle, kind) for kind in ("missing", "bent")]
SOLIDS += [(baseball, "cut"), (dog_collar, "bent")]
SOLIDS += [(headphones, kind) for kind in ("missing", "crack", "tear")]
SOLIDS += [(fan, kind) for kind in ("bent", "chip")]


@pytest.mark.parametrize("module, kind", SOLIDS)
def test_a_defective_solid_has_another_shape_near_the_defect_only(module, kind):
    axes = [np.arange(a, b, 0.03) for a, b in zip(module.LOW, module.HIGH, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    flawless = module.distance(*grid) < 0
    # pins, connector, handles, levers, drawer, rockers
    long = module in (plug, usb_stick, clamp, tap, glasses, grinder, switch, door_handle)
    farthest = 0.5 if long else 0.3
    for seed in range(12):
        defect = module.random_defect(kind, np.random.default_rng(seed))
        differs = flawless != (module.distance(*grid, defect) < 0)
        away = np.linalg.norm(np.stack(grid, -1)[differs] - defect["centre"], axis=-1)
        assert len(away) and away.max() < farthest


@pytest.mark.parametrize("kind", ["missing", "skewed", "cut"])
def test_a_defective_watch_has_another_shape_near_the_defect_only(kind):
    corners = np.array([watch.HEAD_GRID[:2], watch.STRAP_GRID[:2]])
    rng = np.random.default_rng(0)
    anywhere = rng.uniform(corners[:, 0].min(0), corners[:, 1].max(0), (60000, 3))
    for seed in range(12):
        defect = watch.random_defect(kind, np.random.default_rng(seed))
        near = defect["centre"] + rng.uniform(-0.1, 0.1, (30000, 3))  # small parts
        points = np.vstack([anywhere, near])
        differs = (watch.distance(*points.T) < 0) != (watch.distance(*points.T, defect) < 0)
        away = np.linalg.norm(points[differs] - defect["centre"], axis=1)
        assert len(away) and away.max() < 0.45


@pytest.mark.parametrize("smeared", [0, 1])
@pytest.mark.parametrize(
    "inked, face, other, centre",
    [
        (toy_car.ink, toy_car.LEFT, toy_car.RIGHT, (toy_car.DOOR[0], 0.44, toy_car.DOOR[1])),
        (plug.inked, plug.BACK, plug.FRONT, (0, -0.24, 0.15)),
    ],
)
def test_a_misprint_stays_within_its_disc(inked, face, other, centre, smeared):
    points = centre + np.random.default_rng(0).uniform(-0.4, 0.4, (4000, 3)) * [1, 0, 1]
    defect = {"kind": "misprint", "face": face, "side": face, "centre": centre, "radius": 0.22}
    defect |= {"smeared": smeared, "across": 0.08, "down": 0.02}
    differs = inked(points, face) != inked(points, face, defect)
    assert differs.any() and np.linalg.norm(points - centre, axis=1)[differs].max() < 0.22
    assert (inked(points, other) == inked(points, other, defect)).all()


def test_another_draw_has_other_seeds_and_the_same_names():
    counts = dict.fromkeys("ABCDE", 4)
    first, other = (plan_queries("Board", counts, 5, "ABCDE", draw) for draw in (0, 1))
    assert [(r.name, r.light) for r in first] == [(r.name, r.light) for r in other]
    assert len({r.seed for r in (*first, *other)}) == 2 * len(first) == 80
