"""What benchmarks/comparison_time.py times is the comparison that AUROC_TEST.py makes."""

import pytest
import torch

from benchmarks.comparison_time import compared_images, measured, pass_through, score
from piad.anomaly import DetectConfig
from piad.comparison import Comparer, Job
from piad.models import ModelPair
from piad.scoring import Shot, anomalies_at, batches
from tests.detection_scene import IDENTITY_POSE, FlatModels, SeededNet, object_image, write_query
from tests.gaussian_scene import ball, camera_at, photos

FOUND = {"status": "ok", "camera_to_world": IDENTITY_POSE}


@pytest.mark.parametrize("size, passes", [(1, 3), (2, 2), (16, 1)])
def test_the_scores_are_those_of_the_comparisons(tmp_path, size, passes):
    colours, alpha = object_image()
    models = FlatModels(colours, alpha)
    shown = models.view.over(models.background)[:3]
    pictures = {"good/000": shown, "good/001": 0.8 * shown, "stain/000": shown.clone()}
    pictures["stain/000"][:, 20:26, 20:26] = 0.9
    queries = [write_query(tmp_path, name, image) for name, image in pictures.items()]
    cfg = DetectConfig(detect_layers="0,1", detect_facing=0.0)
    comparer = Comparer(models, "a", SeededNet(), cfg, tmp_path / "maps")
    expected = [comparer.compare(query, query, FOUND).score for query in queries]
    comparer.net.passes = 0
    shots = [Job(query, query, FOUND).shots(None)[0] for query in queries]
    found = [value for batch in batches(shots, size) for value in score(comparer, batch)]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert comparer.net.passes == passes


def test_a_pass_is_one_of_all_images():
    seen = []

    class Counting(SeededNet):
        def features(self, images):
            seen.append(len(images))
            return super().features(images)

    pass_through(Counting(), [torch.zeros(8, 3, 16, 16), torch.zeros(4, 3, 16, 24)])
    assert seen == [8, 4]


def test_the_images_are_those_that_the_comparison_gives_to_the_network():
    models, cameras = ModelPair(ball(), ball(seed=1)), [camera_at(7.0), camera_at(16.0)]
    shots = [Shot(camera, *photos(models.colour, [camera]) * 2) for camera in cameras]
    cfg, seen = DetectConfig(detect_layers="0,1", detect_facing=0.0), []

    class Keeping(SeededNet):
        def features(self, images):
            seen.append(images)
            return super().features(images)

    anomalies_at(models, shots, Keeping(), cfg, None)
    images = compared_images(models, shots, cfg, 4)
    assert [batch.shape for batch in images] == [batch.shape for batch in seen]
    assert len(images) == 2
    torch.testing.assert_close(images[0][0], seen[0][0])


def test_kinds_of_work_take_turns_and_the_first_round_is_not_counted():
    calls, device = [], torch.device("cpu")
    first = [lambda: calls.append("a"), lambda: calls.append("b")]
    second = [lambda: calls.append("c"), lambda: calls.append("d")]
    found = measured([first, second], device, 2)
    assert "".join(calls) == "acbd" * 3
    assert len(found) == 2 and all(0 <= value < 1 for kind in found for value in kind)
