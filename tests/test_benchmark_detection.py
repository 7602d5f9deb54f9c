"""The comparators of benchmarks/detection.py: the memory bank and the parts left out."""

import math
from dataclasses import asdict

import pytest
import torch

from benchmarks.detection import CHANGES, OURS, row, table, variants
from benchmarks.memory_bank import (
    NEIGHBOURS,
    MemoryBank,
    greedy_coreset,
    image_patches,
    patch_features,
    pixel_map,
)
from piad.anomaly import ORIGINAL, DetectConfig
from piad.comparison import OK, Comparison
from tests.detection_scene import SIDE, SeededNet, object_image, write_query


def test_patches_are_means_over_three_by_three_with_coarse_layers_enlarged():
    fine = torch.zeros(1, 1, 4, 4)
    fine[..., 1, 1] = 36.0
    coarse = torch.full((1, 2, 2, 2), 5.0)
    patches = patch_features([fine, coarse])
    assert patches.shape == (4, 4, 3)
    # The corner's window has 4 cells inside, an edge's 6, the middle's 9.
    expected = torch.tensor([[9.0, 6, 6, 0], [6, 4, 4, 0], [6, 4, 4, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(patches[..., 0], expected)
    torch.testing.assert_close(patches[..., 1:], torch.full((4, 4, 2), 5.0))


def test_coarse_layers_are_enlarged_bilinearly():
    coarse = torch.tensor([0.0, 12.0, 0.0]).reshape(1, 1, 1, 3)  # averaged: 6, 4, 6
    patches = patch_features([torch.zeros(1, 1, 1, 6), coarse])
    expected = torch.tensor([6.0, 5.5, 4.5, 4.5, 5.5, 6.0])
    torch.testing.assert_close(patches[0, :, 1], expected)


def test_a_known_patch_scores_nothing_and_a_foreign_one_its_distance():
    bank = MemoryBank.of(torch.tensor([[0.0, 0.0], [30.0, 40.0]]))
    distances, score = bank.score(torch.tensor([[[30.0, 40.0], [0.0, 0.0], [3.0, 4.0]]]))
    torch.testing.assert_close(distances, torch.tensor([[0.0, 0.0, 5.0]]), atol=1e-6, rtol=0)
    # The match's other neighbour is 45 away, 40 more than the match: nothing is taken off.
    assert score == pytest.approx(5.0, rel=1e-12)
    assert bank.score(torch.tensor([[[30.0, 40.0]]]))[1] == pytest.approx(0.0, abs=1e-6)


def test_the_image_score_is_the_highest_distance_reweighted():
    bank = MemoryBank.of(torch.tensor([[0.0], [1.0]]))
    distances, score = bank.score(torch.tensor([[[-2.0], [0.5]]]))
    torch.testing.assert_close(distances, torch.tensor([[2.0, 0.5]]))
    # Eq. 7 with b = both patches, 2 and 3 away: (1 - e^2 / (e^2 + e^3)) * 2.
    assert score == pytest.approx(2 * math.e / (1 + math.e), rel=1e-6)


def test_the_weight_is_of_the_neighbours_of_the_match_not_of_the_patch():
    # Nine around the match at 0; -4.05 is nearer to the patch at -2 than all but the match.
    around = [0.1 * k for k in range(NEIGHBOURS)]
    bank = MemoryBank.of(torch.tensor([-4.05, *around])[:, None])
    weight = 1 - 1 / sum(math.exp(offset) for offset in around)
    assert bank.score(torch.tensor([[[-2.0]]]))[1] == pytest.approx(2 * weight, rel=1e-5)


def test_far_distances_do_not_overflow_the_weight():
    bank = MemoryBank.of(torch.tensor([[0.0], [0.0]]))
    assert bank.score(torch.tensor([[[5000.0]]]))[1] == pytest.approx(2500.0)


def test_the_coreset_keeps_patches_that_lie_apart():
    generator = torch.Generator().manual_seed(0)
    crowd = 0.1 * torch.randn(200, 5, generator=generator)
    far = 10 * torch.eye(5)
    patches = torch.cat([crowd[:100], far, crowd[100:]])
    chosen = greedy_coreset(patches, 6).tolist()
    assert len(set(chosen)) == 6
    assert set(range(100, 105)) < set(chosen)


def test_the_coreset_covers_a_line_as_halving_does():
    # From the far end: 16; then 0, then the middle, then the quarters.
    line = torch.cat([torch.arange(16.0), torch.tensor([16.0])])[:, None]
    line[-1] = 16.001
    chosen = greedy_coreset(line, 5).tolist()
    assert chosen[:3] == [16, 0, 8] and set(chosen[3:]) == {4, 12}


def test_a_gallery_photograph_scores_nothing_and_a_defect_where_it_is():
    net = SeededNet()
    flawless = [object_image(seed)[0] for seed in range(3)]
    bank = MemoryBank.learn(flawless, net, (0, 1), share=1.0)
    assert len(bank.patches) == 3 * (SIDE // 2) ** 2
    _, own = bank.score(image_patches(flawless[1], net, (0, 1)))
    defective = flawless[1].clone()
    defective[:, 20:28, 30:38] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    distances, score = bank.score(image_patches(defective, net, (0, 1)))
    assert own < 1e-3 < 0.05 < score
    row, column = divmod(int(pixel_map(distances, (SIDE, SIDE)).argmax()), SIDE)
    assert 18 <= row < 30 and 28 <= column < 40


def test_every_variant_leaves_out_one_part_and_the_papers_is_the_preset():
    own = asdict(DetectConfig())
    found = {name: asdict(choices) for name, choices in variants(DetectConfig()).items()}
    changed = {
        name: {key for key in own if own[key] != values[key]} for name, values in found.items()
    }
    assert changed.pop("ours") == set()
    paper = found["paper's score"]
    assert {key: paper[key] for key in ORIGINAL} == ORIGINAL and changed.pop("paper's score")
    assert set(changed) == set(CHANGES) - {"ours", "paper's score"}
    assert all(len(keys - {"detect_change"}) <= 1 for keys in changed.values())
    assert changed["no change net"] == {"detect_change"}
    assert "detect_change" not in changed["no detail"]
    some = variants(DetectConfig(), ["ours", "paper's score", "memory bank"])
    assert set(some) == {"ours", "paper's score"}


def test_a_row_has_the_figures_and_their_distance_from_ours(tmp_path):
    image = torch.full((3, 4, 4), 0.5)
    names = ("good/0", "good/1", "burr/0", "burr/1")
    queries = [write_query(tmp_path, name, image) for name in names]

    def judged(scores):
        return [Comparison(q, OK, s, None) for q, s in zip(queries, scores, strict=True)]

    ours, other = judged([0.0, 1.0, 2.0, 3.0]), judged([2.0, 3.0, 0.0, 1.0])
    rows = {OURS: row(ours, ours, 0.5, False), "other": row(other, ours, 0.25, False)}
    assert (rows[OURS]["image_auroc"], rows["other"]["image_auroc"]) == (1.0, 0.0)
    assert rows["other"]["less_ours"] == (-1.0, -1.0)
    assert table(rows).splitlines()[2:] == [
        "| ours | 1.000 | 1.000 | - | - | - | 0.500 | - |",
        "| other | 0.000 | 0.417 | - | - | - | 0.250 | -1.000 to -1.000 |",
    ]
