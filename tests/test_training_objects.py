"""Example objects made anew for the change net's training; without Mitsuba."""

import json

import numpy as np
import pytest

from data.make import make_mip_object
from data.make import make_training_objects as maker
from data.make.lights import LIGHTS
from data.make.make_training_objects import UNSEEN, light_of, main, make_object, varied
from piad.config import PoseConfig
from piad.scenes import load_scene
from piad.true_poses import true_query_cameras

SIDE = 24


class Plain:
    """A stage whose photographs are a colour that the light decides on, but where it is broken."""

    def __init__(self, broken=slice(0)):
        self.broken = broken

    def render(self, light, camera_to_world, size, samples, seed):
        image = np.full((*size, 3), 0.02 * seed % 0.3 * light.exposure)
        image[self.broken, self.broken] += 0.4
        return image, None


@pytest.fixture
def small(monkeypatch):
    """Few small photographs; the second defect is shown by no view."""

    def shown(size):
        mask = np.zeros(size, bool)
        mask[4:8, 4:8] = True
        return np.eye(4), mask

    def broken(request, name, flawless, near, size, fov_x, smallest, likeness):
        if request.number == 1:
            raise RuntimeError("no view shows a chip (chip/001); widen the bounds")
        return {}, Plain(slice(4, 8)), *shown(size)

    def view(flawless, broken, next_pose, size, fov_x, smallest):
        return shown(size)

    monkeypatch.setattr(maker, "build_stage", lambda name, likeness: Plain())
    monkeypatch.setattr(maker, "broken_view", broken)
    monkeypatch.setattr(maker, "view_of", view)
    for module in (maker, make_mip_object):
        monkeypatch.setattr(module, "SIZE", (SIDE, SIDE))
        monkeypatch.setattr(module, "GALLERY_VIEWS", 3)


def test_an_object_reads_as_a_mip_class_without_the_defects_that_nothing_shows(tmp_path, small):
    make_object("Knob", 12, tmp_path / "Knob_12", samples=1, defects=3)
    options = {"class_name": "Knob_12", "data_dir": tmp_path, "dataset_type": "MIP"}
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    scene = load_scene(PoseConfig.from_command_line(arguments).data, "Knob_12")
    assert len(scene.gallery) == 3
    assert sorted(query.id for query in scene.queries) == [
        *(f"chip/000_{k}" for k in range(2)),
        *(f"good/{n:03}_{k}" for n in range(3) for k in range(2)),
        *(f"stain/002_{k}" for k in range(2)),
    ]
    assert set(true_query_cameras(scene)) == {query.id for query in scene.queries}
    assert [float(q.mask().sum()) for q in scene.queries if q.label] == [16] * 4


def test_what_one_cannot_see_is_left_out(tmp_path, small, monkeypatch):
    def unseen(request, name, flawless, near, size, fov_x, smallest, likeness):
        mask = np.zeros(size, bool)
        mask[4:8, 4:8] = True
        return {}, Plain(slice(4, 8) if request.number else slice(0)), np.eye(4), mask

    monkeypatch.setattr(maker, "broken_view", unseen)
    make_object("Knob", 12, tmp_path / "Knob", samples=1, defects=2)
    frames = json.loads((tmp_path / "Knob/transforms_test.json").read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == [
        *(f"test/good/000_{k}" for k in range(2)),
        *(f"test/{name}/001_{k}" for name in ("good", "scratch") for k in range(2)),
    ]
    assert not (tmp_path / "Knob/test/chip").exists()


def test_objects_that_are_there_stay_and_the_measured_ones_are_not_made(tmp_path, small):
    folder = tmp_path / "Knob_13"
    arguments = [str(tmp_path), "--names", "Knob", "--draws", "13", "--samples", "1"]
    main(arguments)
    record = folder / "transforms_test.json"
    before, time = json.loads(record.read_text()), record.stat().st_mtime_ns
    main(arguments)
    assert record.stat().st_mtime_ns == time and len(before["frames"]) == 2 * 24 + 2 * 23
    for name in UNSEEN:
        with pytest.raises(SystemExit):
            main([str(tmp_path), "--names", name])


def test_most_queries_are_under_lights_of_their_own():
    rng = np.random.default_rng(0)
    daylight = varied(LIGHTS["A"], rng)
    found = [light_of(daylight, rng) for _ in range(400)]
    share = {name: sum(own == name for own, _ in found) / 400 for name in "ABCDER"}
    assert share["R"] == pytest.approx(0.55, abs=0.06) and share["A"] == pytest.approx(
        0.12, abs=0.05
    )
    assert all(0.03 < share[name] < 0.15 for name in "BCDE") and sum(share.values()) == 1
    random = [light for name, light in found if name == "R"]
    assert len(set(random)) == len(random)
    assert all(light == daylight for name, light in found if name == "A")


def test_a_varied_light_comes_from_another_side_with_lamps_of_the_same_size():
    light = LIGHTS["A"]
    other = varied(light, np.random.default_rng(1))
    turns = {
        round((b.azimuth - a.azimuth) % 360, 6)
        for a, b in zip(light.softboxes, other.softboxes, strict=True)
    }
    assert len(turns) == 1 and turns != {0.0}
    assert [b.half_width for b in other.softboxes] == [a.half_width for a in light.softboxes]
    assert other.softboxes[0].radiance != light.softboxes[0].radiance and other.sky != light.sky


def test_a_broken_object_is_shown_from_as_many_places_as_asked(tmp_path, small, monkeypatch):
    make_object("Knob", 12, tmp_path / "Knob", samples=1, defects=3, views=2)
    frames = json.loads((tmp_path / "Knob/transforms_test.json").read_text())["frames"]
    names = [frame["file_path"] for frame in frames]
    assert [n for n in names if "good" not in n] == [
        f"test/{kind}/{n:03}_{k}" for kind, n in (("chip", 0), ("stain", 2)) for k in range(4)
    ]
    assert len(names) == 3 * 2 + 2 * 4
    monkeypatch.setattr(maker, "view_of", lambda *arguments: None)
    make_object("Knob", 12, tmp_path / "once", samples=1, defects=1, views=2)
    frames = json.loads((tmp_path / "once/transforms_test.json").read_text())["frames"]
    assert len(frames) == 2 + 2


def test_from_draw_14_on_an_object_and_what_breaks_of_it_are_changed_alike(
    tmp_path, small, monkeypatch
):
    built, broken = [], maker.broken_view
    monkeypatch.setattr(
        maker, "build_stage", lambda name, likeness: built.append(likeness) or Plain()
    )
    monkeypatch.setattr(
        maker, "broken_view", lambda *given: built.append(given[-1]) or broken(*given)
    )
    for draw in (13, 14, 15):
        make_object("Knob", draw, tmp_path / str(draw), samples=1, defects=1)
    assert built[0] is built[1] is None
    assert built[2] is built[3] is not None and built[4] is built[5] is not None
    assert built[2] != built[4]
