"""The change net's training."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gaussian_renderer.errors import UserError
from piad import change_data, solid_objects, train_change
from piad.anomaly import DetectConfig
from piad.change_data import packed, unpacked
from piad.change_net import KINDS, ChangeNet, read_change_net
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


def seeded(seed):
    return torch.Generator().manual_seed(seed)


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
