"""EfficientLoFTR: the published checkpoint's names, the golden features, the matching stages."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from EfficientLoFTR import CheckpointError, load_matcher, select
from EfficientLoFTR import efficientloftr as module
from EfficientLoFTR.checkpoint import key_table, read_checkpoint, to_transformers_key

DATA = Path(__file__).parent / "data"


def seeded_state() -> dict[str, torch.Tensor]:
    """The 447 tensors that the golden answers were computed with."""
    shapes = json.loads((DATA / "eloftr_outdoor_keys.json").read_text())
    state = {}
    for key, shape in shapes.items():
        g = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        if key.endswith("num_batches_tracked"):
            value = torch.tensor(0)
        elif key.endswith("running_var"):
            value = 0.5 + torch.rand(shape, generator=g)
        elif key.endswith("running_mean"):
            value = 0.1 * torch.randn(shape, generator=g)
        elif len(shape) == 1:
            base = 1.0 if key.endswith("weight") else 0.0
            value = base + 0.1 * torch.randn(shape, generator=g)
        else:
            value = 0.35 * torch.randn(shape, generator=g) / math.sqrt(math.prod(shape[1:]))
        state[key] = value
    return state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "eloftr_outdoor.ckpt"
    torch.save({"state_dict": {f"matcher.{k}": v for k, v in seeded_state().items()}}, path)
    return path


@pytest.fixture(scope="module")
def matcher(checkpoint):
    return load_matcher("eloftr", checkpoint=checkpoint, size=128, say=lambda text: None)


@pytest.fixture(scope="module")
def golden():
    with np.load(DATA / "eloftr_seeded.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def relative(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


def test_all_447_names_map_one_to_one_onto_transformers_names():
    names = list(seeded_state())
    table = key_table(names)
    assert len(table) == 447
    assert set(table.values()) == set(module.build_network().state_dict())
    back = {new: old for old, new in table.items()}
    assert [back[table[name]] for name in names] == names


def test_features_equal_the_original_networks_golden_answers(matcher, golden):
    network = matcher.network
    images = torch.cat([golden["image0"], golden["image1"]])
    with torch.inference_mode():
        maps = network.efficientloftr.backbone(images)
        coarse = module.coarse_transform(network, maps[2][None])[0]
        confidence = module.coarse_confidence(coarse)
    # seen: 0, 2.3e-7, 2.3e-7, 1.2e-5
    assert relative(maps[2], golden["backbone_coarse"]) < 1e-5
    assert relative(coarse[:1], golden["transformer_coarse0"]) < 1e-5
    assert relative(coarse[1:], golden["transformer_coarse1"]) < 1e-5
    assert relative(confidence[None], golden["conf_matrix"]) < 1e-4


def test_kept_features_give_the_transformer_the_same_input(matcher, golden):
    grey = golden["image0"].expand(1, 3, -1, -1)[..., :128]  # 128 px: nothing is resampled
    kept = matcher.encode(grey)[0]
    with torch.inference_mode():
        direct = matcher.network.efficientloftr.backbone(grey[:, :1])
    assert [kept[f"map{i}"].shape for i in range(3)] == [m.shape[1:] for m in direct]
    assert relative(kept["map2"].float(), direct[2][0]) < 1e-3  # kept in half precision


def test_match_of_differently_shaped_images_runs_and_stays_inside(matcher, monkeypatch):
    monkeypatch.setattr(module, "COARSE_THRESHOLD", 0.0)  # random weights match weakly
    torch.manual_seed(0)
    a = matcher.encode(torch.rand(1, 3, 90, 120))[0]
    b = matcher.encode(torch.rand(2, 3, 120, 80))
    first, second = matcher.match_many(a, b)
    assert len(first) > 0 and len(second) > 0
    for matches in (first, second):
        assert (matches.points_a >= 0).all() and (matches.points_b >= 0).all()
        assert (matches.points_a <= torch.tensor([120.0, 90.0])).all()
        assert (matches.points_b <= torch.tensor([80.0, 120.0])).all()
    again = matcher.match(a, b[1])
    torch.testing.assert_close(again.points_b, second.points_b)


def planted_features(shift_cells, shift_px):
    """Coarse and fine features that are unique per place, moved between the two images."""
    g = torch.Generator().manual_seed(5)
    h = w = 10
    coarse_a = 40 * torch.nn.functional.normalize(torch.randn(256, h, w, generator=g), dim=0)
    coarse_b = torch.roll(coarse_a, (shift_cells[1], shift_cells[0]), dims=(1, 2))
    fine_a = 6 * torch.randn(64, 8 * h, 8 * w, generator=g)
    rows = 8 * shift_cells[1] + shift_px[1], 8 * shift_cells[0] + shift_px[0]
    fine_b = torch.roll(fine_a, rows, dims=(1, 2))
    # flat in the second stage's channels: the expectation then adds no offset
    fine_a[-8:], fine_b[-8:] = 0, 0
    return torch.stack([coarse_a, coarse_b]), torch.stack([fine_a, fine_b])


def test_planted_shift_is_recovered_to_the_pixel():
    coarse, fine = planted_features((2, 1), (3, -2))
    points, confidence = module.match_features(coarse, fine)
    assert len(confidence) >= 20 and (confidence > 0.2).all()
    difference = points[1] - points[0]
    torch.testing.assert_close(
        difference.median(0).values, torch.tensor([2 * 8.0 + 3, 8.0 - 2]), atol=0, rtol=0
    )
    exact = (difference == difference.median(0).values).all(1).float().mean()
    assert exact > 0.9


def test_second_fine_stage_moves_towards_the_better_neighbour():
    coarse, fine = planted_features((0, 0), (0, 0))
    # the last channels agree most with the pixel to the right: matches move right, not down
    ramp = torch.arange(80.0).expand(80, 80)
    fine[0, -8:], fine[1, -8:] = 1.0, ramp
    points, _ = module.match_features(coarse, fine)
    offset = (points[1] - points[0]).median(0).values
    weights = torch.tensor([-1.0, 0.0, 1.0]).mul(8 / math.sqrt(8) / 10).softmax(0)
    assert offset[0].item() == pytest.approx((weights[2] - weights[0]).item(), abs=1e-4)
    assert offset[1].item() == pytest.approx(0, abs=1e-4)


def test_coordinates_are_symmetric_under_a_half_turn_of_a_cell_centre():
    # stride-2 convolutions with padding 1 put cell i on pixel 8i: its window is 8i-3.5 .. 8i+3.5
    coarse, fine = planted_features((0, 0), (0, 0))
    points, _ = module.match_features(coarse, fine)
    inside = (points[0] - 0.5) / 8
    assert (inside - inside.round()).abs().max() <= 0.5


def test_no_match_gives_empty_results():
    flat = torch.zeros(2, 256, 6, 6)
    points, confidence = module.match_features(flat, torch.zeros(2, 64, 48, 48))
    assert points.shape == (2, 0, 2) and confidence.shape == (0,)


def test_missing_and_foreign_checkpoints_are_named_with_the_next_step(tmp_path, checkpoint):
    with pytest.raises(CheckpointError, match="no EfficientLoFTR checkpoint at .*gone.ckpt.*xfeat"):
        read_checkpoint(tmp_path / "gone.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot read .*text.ckpt"):
        read_checkpoint(tmp_path / "text.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(CheckpointError, match="holds no state_dict"):
        read_checkpoint(tmp_path / "list.ckpt")
    torch.save({"state_dict": {"matcher.other": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="unknown tensor 'other'"):
        read_checkpoint(tmp_path / "other.ckpt")
    state = seeded_state()
    state.popitem()
    torch.save({"state_dict": state}, tmp_path / "short.ckpt")
    with pytest.raises(CheckpointError, match="446 of EfficientLoFTR's 447"):
        read_checkpoint(tmp_path / "short.ckpt")
    state = read_checkpoint(checkpoint)
    state["refinement_layer.out_conv.weight"] = torch.zeros(2, 2, 1, 1)
    with pytest.raises(CheckpointError, match="do not fit"):
        module.build_network(state)


@pytest.mark.parametrize(
    "name", ["backbone.layer0.odd", "fine_preprocess.layer2_outconv2.9.x", "x"]
)
def test_unknown_names_are_refused(name):
    with pytest.raises(KeyError):
        to_transformers_key(name)


def test_originals_place_comes_before_the_download(checkpoint, monkeypatch):
    monkeypatch.setattr(select, "ORIGINAL_PLACE", checkpoint)
    said = []
    matcher = load_matcher("auto", size=64, say=said.append)
    assert said == [f"matcher: EfficientLoFTR ({checkpoint})"]
    assert not matcher.storable and matcher.size == 64


def test_download_failure_says_what_to_do(tmp_path, monkeypatch):
    from transformers import EfficientLoFTRForKeypointMatching as Network

    monkeypatch.setattr(select, "ORIGINAL_PLACE", tmp_path / "none.ckpt")

    def offline(name):
        raise OSError(f"cannot reach {name}")

    monkeypatch.setattr(Network, "from_pretrained", offline)
    with pytest.raises(CheckpointError, match="cannot download zju.*eloftr_outdoor.ckpt"):
        load_matcher("eloftr")
    monkeypatch.setattr(Network, "from_pretrained", lambda name: module.build_network())
    assert "download" in load_matcher("eloftr", size=64, say=lambda text: None).name
