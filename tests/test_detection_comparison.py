"""Comparisons are paired by id, kept on disk, and made anew exactly when an input changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_image
from piad.anomaly import DetectConfig
from piad.close_up import Window
from piad.comparison import Comparer, compare_all, pair_by_id
from piad.scoring import batches
from tests.detection_scene import IDENTITY_POSE, FlatModels, SeededNet, object_image, write_query

CFG = DetectConfig(detect_layers="0,1", detect_facing=0.0)  # what is flat faces nowhere
FOUND = {"status": "ok", "camera_to_world": IDENTITY_POSE}


@pytest.fixture
def world(tmp_path):
    colours, alpha = object_image()
    shown = colours * alpha + 0.5 * (1 - alpha)
    defect = shown.clone()
    defect[:, 20:26, 20:26] = 0.9
    queries = [
        write_query(tmp_path, "good/000", shown),
        write_query(tmp_path, "stain/000", defect, (defect != shown).any(0)),
    ]
    return tmp_path, FlatModels(colours, alpha), queries


def comparer(world, net, cfg=CFG, models_id="a"):
    folder, models, _ = world
    return Comparer(models, models_id, net, cfg, folder / "maps")


def test_a_comparison_holds_score_map_and_rendering(world):
    _, models, (good, stain) = world
    mine = comparer(world, SeededNet())
    flawless, defective = (mine.compare(q, q, FOUND, "B") for q in (good, stain))
    assert defective.score > 3 * flawless.score
    assert defective.map().max() >= defective.score and defective.light == "B"
    expected = models.view.over(models.background)[:3].mul(255).round().numpy()
    np.testing.assert_array_equal(defective.rendering().transpose(2, 0, 1), expected)


class TurningModels(FlatModels):
    """Shows another image to a camera on the other side."""

    def __init__(self, colours, alpha, other):
        super().__init__(colours, alpha)
        self.other = FlatModels(other, alpha).view

    def seen_by(self, camera):
        return self.view if camera.world_to_camera[0, 0] > 0 else self.other


def test_a_query_with_a_rival_pose_counts_as_seen_from_the_side_that_explains_it(world):
    root, models, (good, stain) = world
    colours, alpha = object_image()
    behind = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)).tolist()
    both = FOUND | {"rival_camera_to_world": behind}
    turned = TurningModels(object_image(seed=5)[0], alpha, colours)  # the rival is right
    net = SeededNet()
    mine = Comparer(turned, "turned", net, CFG, root / "maps")
    wrong = mine.compare(good, good, FOUND)
    found, again = mine.compare(good, good, both), mine.compare(good, good, both)
    right = comparer(world, net).compare(good, good, FOUND)
    assert wrong.score > 3 * right.score
    assert found.score == pytest.approx(right.score, rel=1e-5) and again == found
    assert found.pose == behind and wrong.pose == FOUND["camera_to_world"]
    expected = models.view.over(models.background)[:3].mul(255).round().numpy()
    np.testing.assert_array_equal(found.rendering().transpose(2, 0, 1), expected)
    # a defect remains one, and batches mix queries of one pose and of two
    records = {"good/000": FOUND, "stain/000": both}
    mixed = compare_all(mine, pair_by_id([good, stain], [good, stain]), records, {})
    assert mixed[0].score == wrong.score and mixed[1].pose == behind
    assert mixed[1].score > 3 * right.score


def test_finished_comparisons_are_not_repeated(world):
    query = world[2][1]
    net = SeededNet()
    first = comparer(world, net).compare(query, query, FOUND)
    again = comparer(world, net).compare(query, query, FOUND)
    assert net.passes == 1
    assert again == first


@pytest.mark.parametrize("change", ["setting", "model", "network", "pose", "photo", "file"])
def test_a_changed_input_is_compared_anew(world, change):
    query = world[2][1]
    net = SeededNet()
    kept = comparer(world, net).compare(query, query, FOUND)
    cfg, models_id, record = CFG, "a", FOUND
    if change == "setting":
        cfg = replace(CFG, detect_sigma=2.0)
    elif change == "model":
        models_id = "b"
    elif change == "network":
        net.name = "other"
    elif change == "pose":
        pose = torch.eye(4, dtype=torch.float64)
        pose[0, 3] = 1e-9
        record = {"status": "ok", "camera_to_world": pose.tolist()}
    elif change == "photo":
        write_image(query.path, torch.zeros(3, 48, 48))
    else:
        kept.file.write_bytes(kept.file.read_bytes()[:100])
    comparer(world, net, cfg, models_id).compare(query, query, record)
    assert net.passes == 2


@pytest.mark.parametrize(
    "record", [{"status": "not_found", "camera_to_world": IDENTITY_POSE}, {"status": "ok"}]
)
def test_a_query_without_a_pose_has_no_score_and_marks_nothing(world, record):
    query = world[2][1]
    comparison = comparer(world, SeededNet()).compare(query, query, record)
    assert comparison.status == "not_found" and comparison.score is None
    assert comparison.map().shape == (48, 48) and not comparison.map().any()
    assert comparison.rendering() is None


def test_queries_are_paired_by_id_not_by_position(world):
    _, _, queries = world
    pairs = pair_by_id(queries, queries[::-1])
    assert [(a.id, b.id) for a, b in pairs] == [(q.id, q.id) for q in queries]
    with pytest.raises(UserError, match="stain/000"):
        pair_by_id(queries, queries[:1])


def test_a_query_missing_from_the_poses_is_named(world):
    _, _, queries = world
    pairs = pair_by_id(queries, queries)
    with pytest.raises(UserError, match="1 of 2 queries, the first is stain/000"):
        compare_all(comparer(world, SeededNet()), pairs, {"good/000": FOUND}, {})


def test_compare_all_keeps_the_order_and_the_lights(world):
    _, _, queries = world
    records = {query.id: FOUND for query in queries}
    pairs = pair_by_id(queries, queries)
    done = compare_all(comparer(world, SeededNet()), pairs, records, {"stain/000": "C"})
    assert [(c.query.id, c.light) for c in done] == [("good/000", None), ("stain/000", "C")]


def test_a_batch_is_compared_in_one_pass_as_its_queries_alone(world, monkeypatch):
    root, _, queries = world
    small = write_query(root, "good/001", torch.rand(3, 48, 40))
    monkeypatch.setattr("piad.scoring.BATCH", {"cpu": 8})
    net, records = SeededNet(), {q.id: FOUND for q in queries}
    together = compare_all(comparer(world, net), [(q, q) for q in queries], records, {})
    assert net.passes == 1
    again = Comparer(world[1], "a", SeededNet(), CFG, root / "other")
    for found, query in zip(together, queries, strict=True):
        alone = again.compare(query, query, FOUND)
        assert found.score == pytest.approx(alone.score, rel=1e-4)
        np.testing.assert_allclose(found.map(), alone.map(), atol=1e-4 * alone.map().max())
    # What is kept is left out of a batch.
    records["good/001"] = {"status": "not_found"}
    pairs = [(q, q) for q in (*queries, small)]
    assert compare_all(comparer(world, net), pairs, records, {})[:2] == together
    assert net.passes == 1


def test_close_ups_of_one_size_are_compared_at_once_and_results_keep_their_order(
    world, monkeypatch
):
    root, models, _ = world
    side = {}

    def close_up(models, camera, cfg):
        width = side[tuple(camera.world_to_camera[:3, 3].tolist())]
        return Window(0, 0, width, 40)

    monkeypatch.setattr("piad.comparison.close_up", close_up)
    monkeypatch.setattr("piad.scoring.BATCH", {"cpu": 2})
    queries, records = [], {}
    for number, width in enumerate((24, 40, 24, 40)):
        queries.append(write_query(root, f"good/{number:03}", object_image(number)[0]))
        pose = torch.eye(4, dtype=torch.float64)
        pose[0, 3] = number
        camera = Camera.from_opengl(queries[-1].intrinsics, pose)
        side[tuple(camera.world_to_camera[:3, 3].tolist())] = width
        records[queries[-1].id] = {"status": "ok", "camera_to_world": pose.tolist()}
    mine, seen = comparer(world, SeededNet()), []
    compare = mine.compare_batch

    def compare_batch(jobs):
        seen.append([job.query.id for job in jobs])
        return compare(jobs)

    monkeypatch.setattr(mine, "compare_batch", compare_batch)
    found = compare_all(mine, pair_by_id(queries, queries), records, {})
    assert [comparison.query.id for comparison in found] == [query.id for query in queries]
    assert seen == [["good/000", "good/002"], ["good/001", "good/003"]]


def test_batches_end_where_the_size_changes():
    assert list(batches([1, 1, 1, 2, 2, 1], 2, lambda k: k)) == [[1, 1], [1], [2, 2], [1]]
    assert list(batches([], 2)) == [] and list(batches("abc", 2)) == [["a", "b"], ["c"]]
