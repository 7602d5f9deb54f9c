"""What benchmarks/comparison_time.py times is the comparison that AUROC_TEST.py makes."""

import pytest
import torch

from benchmarks.comparison_time import measured, pass_all, score_all
from piad.anomaly import DetectConfig
from piad.comparison import Comparer, Job
from tests.detection_scene import IDENTITY_POSE, FlatModels, SeededNet, object_image, write_query

FOUND = {"status": "ok", "camera_to_world": IDENTITY_POSE}


@pytest.mark.parametrize("size, passes", [(1, 3), (2, 2), (16, 1)])
def test_the_scores_are_those_of_the_comparisons(tmp_path, size, passes):
    colours, alpha = object_image()
    models = FlatModels(colours, alpha)
    shown = models.view.over(models.background)[:3]
    pictures = {"good/000": shown, "good/001": 0.8 * shown, "stain/000": shown.clone()}
    pictures["stain/000"][:, 20:26, 20:26] = 0.9
    queries = [write_query(tmp_path, name, image) for name, image in pictures.items()]
    cfg = DetectConfig(detect_layers="0,1")
    comparer = Comparer(models, "a", SeededNet(), cfg, tmp_path / "maps")
    expected = [comparer.compare(query, query, FOUND).score for query in queries]
    comparer.net.passes = 0
    shots = [Job(query, query, FOUND).shot(None) for query in queries]
    assert score_all(comparer, shots, size) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert comparer.net.passes == passes


def test_the_networks_passes_cover_as_many_images():
    seen = []

    class Counting(SeededNet):
        def features(self, images):
            seen.append(len(images))
            return super().features(images)

    pass_all(Counting(), torch.zeros(8, 3, 16, 16), 20, 8)
    assert seen == [8, 8, 4]


def test_the_first_round_warms_up_and_is_not_counted():
    calls = []
    wall, processor = measured(lambda: calls.append(1), torch.device("cpu"), 3)
    assert len(calls) == 4 and 0 <= wall < 1 and 0 <= processor < 1
