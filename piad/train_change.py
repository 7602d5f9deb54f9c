"""Train the change net on random objects with defects.

    python -m piad.solid_objects data/solid_objects --count 275 --seed 8 --device cuda
    python -m piad.train_change data/solid_objects --start retrieval/model/change.safetensors
        --kinds changes --runs 2 --rate 1.5e-3 --keep 0.1

Every object is taught as `pose_estimation.py` does, its queries are compared at about their true
poses (kept beside the object, comparison.pt), and the net learns to tell defects from what another
light changes. Every twentieth object is held out and measured at the end. An H100 makes
and compares 10 objects a minute, eight processes under MPS, of which a large object takes up to
11 GB. Any object in the MIP layout with masks and transforms_test.json can take part: the last
round learned from the same random objects, path-traced (`data.make.make_random_objects`), and
beside them from hand-made ones (`data.make.make_training_objects`), a given share of each batch:

    python -m piad.train_change data/traced_objects --beside data/hand_made --share 0.45
        --start retrieval/model/change.safetensors --rate 1e-3 --keep 0.5

docs/change_net.md has the loss and what each round gave.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from piad.anomaly import DetectConfig
from piad.anomaly_map import join_branches
from piad.change_data import LAYERS, SIDE, examples, unpacked
from piad.change_net import KINDS, SHIPPED_WEIGHTS, ChangeNet, read_change_net
from piad.cli import choose_device, progress, run_script
from piad.config import PoseConfig
from piad.features import load_features
from piad.smoothing import gaussian_smooth

KEPT = "comparison.pt"
HELD_OUT = 20  # every so many objects are measured instead of learnt
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 0.05
POSITIVE_WEIGHT = 3.0  # a changed pixel counts as so many, where about USUAL_AREA pixels are ...
USUAL_AREA, AREA_WEIGHTS = 400.0, (0.5, 4.0)  # ... and as the root of the share elsewhere
DICE_FLOOR = 5.0  # px
TOP_SHARE = 0.002  # of the pixels, whose mean logit judges the image
PIXEL, DICE, IMAGE = 4.0, 0.5, 0.3  # weights of the loss
FROM_OBJECT = 2, 2  # flawless and defective examples an object gives to a batch
BLIND_SHARE = 0.2  # of the examples without images, and of those without changes of features
GRID = 8  # cells of the masks: parts begin at whole cells of the coarsest features
PART = 0.79  # of an example's side, that a step sees
ZOOMS = 1.52, 2.4  # least and largest enlargement of an object's examples
UNIT_SPREAD, CONTRAST_SPREAD = 0.15, 0.2  # of the logarithms of distances' and images' scales


def zoom_of(folder: Path) -> float:
    """An object's enlargement, by its name: those of many are spread evenly over ZOOMS."""
    share = crc32(folder.name.encode()) / 2**32
    return round(ZOOMS[0] * (ZOOMS[1] / ZOOMS[0]) ** share, 2)


def teach(folder: Path, device: torch.device) -> Path:
    """Compare an object's queries, or take what was kept; returns the file."""
    path = folder / KEPT
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory() as temporary:
        folders = ("output_dir", "reflection_dir", "ckpt_dir", "reflectance_ckpt_dir", "result_dir")
        options = {key: f"{temporary}/{key}" for key in folders} | {
            "class_name": folder.name,
            "data_dir": str(folder.parent),
            "dataset_type": "MIP",
            "device": str(device),
            "detect_zoom": str(zoom_of(folder)),
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        found = examples(PoseConfig.from_command_line(arguments), device)
    with atomic_path(path) as temporary:
        torch.save(found, temporary)
    return path


def load_examples(paths: Iterable[Path], device: torch.device) -> dict[str, Tensor]:
    """All objects' examples on the device, as `change_data.examples`; `group`: object's number.

    Raises:
        UserError: an object's examples are of another size than those before.
    """
    parts: dict[str, list[Tensor]] = {}
    for number, path in enumerate(paths):
        one = torch.load(path, weights_only=True, map_location=device)
        usual = parts["mask"][0] if parts else one["mask"]
        size, before = (mask.shape[1:] for mask in (one["mask"], usual))
        if size != before:
            raise UserError(
                f"{path} holds examples of {2 * size[-1]} px, other objects' are of "
                f"{2 * before[-1]} px; remove those of another size than {SIDE} px, to compare "
                "these objects anew"
            )
        one["group"] = torch.full_like(one["label"], number)
        for key, values in one.items():
            parts.setdefault(key, []).append(values)
    return {key: torch.cat(parts.pop(key)) for key in list(parts)}


@dataclass(frozen=True)
class Batch:
    """Examples as the net takes them, with masks [B, 1, H / 2, W / 2] and labels [B], 0 or 1."""

    maps: Tensor
    images: Tensor
    surface: Tensor
    changes: list[Tensor]
    mask: Tensor
    label: Tensor

    @classmethod
    def of(cls, data: dict[str, Tensor], pick: Tensor) -> Batch:
        """The examples numbered `pick`."""
        maps, images, surface, mask, label = (
            data[key][pick].float() for key in ("maps", "images", "surface", "mask", "label")
        )
        changes = [unpacked(data[f"changes_{layer}"][pick]) for layer in range(LAYERS)]
        return cls(maps, images, surface, changes, mask, label)

    def logits(self, net: nn.Module) -> Tensor:
        """Of a member, or of the whole net."""
        return net(self.maps, self.images, self.surface, self.changes)


def augmented(batch: Batch) -> Batch:
    """A part of each example, turned and mirrored; colours exchanged, other units and contrasts.

    Some do without images or changes of features. What has no changed pixel left is flawless.
    """
    side = batch.mask.shape[-1]
    room = (side - round(PART * side / GRID) * GRID) // GRID
    top, left = (int(torch.randint(room + 1, ())) for _ in range(2))
    turns, mirror = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)

    def turned(x: Tensor) -> Tensor:
        step = x.shape[-1] * GRID // side
        size = x.shape[-1] - room * step
        x = x[..., top * step : top * step + size, left * step : left * step + size]
        x = torch.rot90(x, turns, (-2, -1))
        return x.flip(-1) if mirror else x

    count, device = len(batch.label), batch.mask.device

    def factor(spread: float) -> Tensor:
        return torch.exp(spread * torch.randn(count, 1, 1, 1, device=device))

    def seeing() -> Tensor:
        return torch.rand(count, 1, 1, 1, device=device) >= BLIND_SHARE

    maps, images, surface, mask, *changes = map(
        turned, (batch.maps, batch.images, batch.surface, batch.mask, *batch.changes)
    )
    colours = torch.stack([torch.randperm(3) for _ in range(count)])
    order = torch.cat([colours + 3 * k for k in range(4)] + [torch.full((count, 1), 12)], 1)
    images = images[torch.arange(count, device=device)[:, None], order.to(device)]
    differences = images[:, 6:12] * factor(CONTRAST_SPREAD)
    images = torch.cat([images[:, :6], differences, images[:, 12:]], 1) * seeing()
    strength = factor(UNIT_SPREAD) * seeing()
    changes = [strength * change for change in changes]
    label = batch.label * (mask.amax((1, 2, 3)) > 0)
    return Batch(maps * factor(UNIT_SPREAD), images, surface, changes, mask, label)


def image_logits(logits: Tensor) -> Tensor:
    """One logit an image [B]: mean of the highest TOP_SHARE of [B, 1, h, w]."""
    flat = logits.flatten(1)
    return flat.topk(max(1, round(flat.shape[1] * TOP_SHARE)), 1).values.mean(1)


def balanced_batches(
    data: dict[str, Tensor], chosen: Tensor, beside: int | None = None, share: float = 0.0
) -> Callable[[int], Tensor]:
    """Draws as many examples (indices) of each of some objects, flawless and defective ones.

    Args:
        beside: number of the first object of another kind; None: all are of one.
        share: of the objects drawn that are of the other kind, on the mean.
    """
    label, group, chosen = data["label"].cpu(), data["group"].cpu(), chosen.cpu()
    kinds: tuple[list, list] = [], []
    for number in group[chosen].unique():
        own = chosen[group[chosen] == number]
        parts = [own[label[own] == kind] for kind in (0, 1)]
        if all(map(len, parts)):
            kinds[beside is not None and int(number) >= beside].append(parts)

    def draw(batch: int) -> Tensor:
        objects = []
        for _ in range(max(1, batch // sum(FROM_OBJECT))):
            other = bool(torch.rand(()) < share) if all(kinds) else not kinds[0]
            objects.append(kinds[other][int(torch.randint(len(kinds[other]), ()))])
        pools = [pool for parts in objects for pool in parts]
        counts = FROM_OBJECT * len(objects)
        picks = zip(pools, counts, strict=True)
        return torch.cat([pool[torch.randint(len(pool), (count,))] for pool, count in picks])

    return draw


def loss_of(logits: Tensor, mask: Tensor, label: Tensor) -> Tensor:
    """Cross entropy of pixels, Dice of the defective images, cross entropy of the images.

    Pixels of a small defect weigh more: a crack has few.
    """
    area = mask.sum((1, 2, 3), keepdim=True).clamp_min(1)
    share = (USUAL_AREA / area).sqrt().clamp(*AREA_WEIGHTS)
    weight = 1 + mask * (POSITIVE_WEIGHT * share - 1)
    pixel = F.binary_cross_entropy_with_logits(logits, mask, weight=weight)
    found = torch.sigmoid(logits)
    both, either = (found * mask).sum((1, 2, 3)), (found + mask).sum((1, 2, 3))
    dice = (1 - (2 * both + DICE_FLOOR) / (either + DICE_FLOOR)) * label
    image = F.binary_cross_entropy_with_logits(image_logits(logits), label)
    return PIXEL * pixel + DICE * dice.sum() / label.sum().clamp_min(1) + IMAGE * image


def train(
    net: nn.Module,
    data: dict[str, Tensor],
    chosen: Tensor,
    steps: int,
    batch: int,
    rate: float = LEARNING_RATE,
    beside: int | None = None,
    share: float = 0.0,
) -> None:
    """AdamW with a one-cycle rate on the examples `chosen` (indices).

    Args:
        net: a member.
        beside, share: as `balanced_batches` takes them.
    """
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps)
    device, draw = chosen.device, balanced_batches(data, chosen, beside, share)
    for _ in progress(range(steps), "training"):
        seen = augmented(Batch.of(data, draw(batch).to(device)))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = seen.logits(net).float()
        loss = loss_of(logits, seen.mask, seen.label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def train_averaged(net: nn.Module, learn: Callable[[], None], runs: int, keep: float) -> None:
    """Several runs from a net's weights, averaged: nearly as good as all of them together.

    What ends runs from the same weights can be averaged (Wortsman et al., Model soups, 2022).

    Args:
        learn: trains the net, another way each time.
        keep: share of the weights it begins with in the mean, 0..1.
    """
    begin = {name: value.clone() for name, value in net.state_dict().items()}
    parts = [(keep, begin)]
    for _ in range(runs):
        net.load_state_dict(begin)
        learn()
        end = {name: value.clone() for name, value in net.state_dict().items()}
        parts.append(((1 - keep) / runs, end))
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(sum(share * weights[name] for share, weights in parts))


@torch.no_grad()
def measures(net: ChangeNet, data: dict[str, Tensor], chosen: Tensor) -> dict[str, dict]:
    """Image AUROC (mean over objects), pixel AUROC and AP of distances, net, and their sum."""
    net.eval()
    maps: dict[str, list[Tensor]] = {"distances": [], "net": [], "both": []}
    for pick in chosen.split(16):
        seen = Batch.of(data, pick)
        found = F.softplus(seen.logits(net))
        ratio, usual = torch.expm1(seen.maps).unflatten(1, (2, -1, 2)).unbind(1)
        own = (join_branches(ratio, "both") - join_branches(usual, "both")).mean(1)
        own = F.interpolate(own, found.shape[-2:], mode="bilinear", align_corners=False)
        own = gaussian_smooth(own, 1.0).clamp_min(0)
        for name, values in zip(maps, (own, found, own + found), strict=True):
            maps[name].append(gaussian_smooth(values, 1.0).cpu())
    label, group = data["label"][chosen].cpu(), data["group"][chosen].cpu()
    mask = data["mask"][chosen].cpu().flatten().numpy()
    result = {}
    for name, parts in maps.items():
        pixels = torch.cat(parts)
        scores = image_logits(pixels)
        own = [group == g for g in group.unique() if 0 < label[group == g].float().mean() < 1]
        result[name] = {
            "image_auroc": sum(roc_auc_score(label[g], scores[g]) for g in own) / max(len(own), 1),
            "pixel_auroc": roc_auc_score(mask, pixels.flatten().numpy()),
            "pixel_ap": average_precision_score(mask, pixels.flatten().numpy()),
        }
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=Path, help="folder of objects in the MIP layout")
    parser.add_argument("--output", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--width", type=int, default=32, help="channels at stride 4")
    parser.add_argument(
        "--kinds", nargs="+", default=KINDS, choices=KINDS, help="of the nets, trained one by one"
    )
    parser.add_argument(
        "--start", type=Path, help="weights to go on from; members not in --kinds stay"
    )
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="highest learning rate")
    parser.add_argument("--runs", type=int, default=1, help="from --start, averaged")
    parser.add_argument("--keep", type=float, default=0.0, help="share of --start in that mean")
    parser.add_argument("--beside", type=Path, help="folder of objects of another kind")
    parser.add_argument(
        "--share", type=float, default=0.45, help="of the objects a step sees, of --beside"
    )
    parser.add_argument(
        "--leave-out",
        nargs="+",
        default=[],
        help="objects (folder names up to the last _) to be measured instead of learnt",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    if arguments.start is None and (arguments.runs > 1 or arguments.keep > 0):
        raise UserError(
            "--runs and --keep average what begins with the same weights; name them with --start"
        )
    device = choose_device(arguments.device)
    folders, others = (
        sorted(path.parent for path in root.glob("*/transforms_test.json")) if root else []
        for root in (arguments.objects, arguments.beside)
    )
    if len(folders) < HELD_OUT:
        raise UserError(
            f"{len(folders)} objects in {arguments.objects}, but at least {HELD_OUT} are needed; "
            "make some with python -m piad.solid_objects"
        )
    if arguments.beside and not others:
        raise UserError(
            f"--beside {arguments.beside} holds no object; make some with python -m "
            "data.make.make_training_objects"
        )
    beside, folders = len(folders), folders + others
    names = [folder.name.rpartition("_")[0] for folder in folders]
    if unknown := set(arguments.leave_out) - set(names):
        raise UserError(
            f"--leave-out {' '.join(sorted(unknown))}: no folder is named so up to its last _; "
            f"there are {', '.join(sorted(set(names)))}"
        )
    paths = [teach(folder, device) for folder in progress(folders, "objects")]
    data = load_examples(paths, device)
    torch.manual_seed(arguments.seed)
    channels = [data[f"changes_{layer}"].shape[1] for layer in range(LAYERS)]
    shape = data["maps"].shape[1], channels, arguments.width, arguments.width // 2
    net = ChangeNet(*shape, arguments.kinds)
    if arguments.start is not None:
        net, _ = read_change_net(arguments.start)
    net.to(device)
    left_out = torch.tensor([name in arguments.leave_out for name in names], device=device)
    aside = (data["group"] % HELD_OUT == 0) | left_out[data["group"]]
    taught = data, (~aside).nonzero()[:, 0], arguments.steps, arguments.batch, arguments.rate
    for kind, member in zip(net.shape["kinds"], net.members, strict=True):
        if kind in arguments.kinds:
            learn = partial(train, member, *taught, beside, arguments.share)
            train_averaged(member, learn, arguments.runs, arguments.keep)
    for name, figures in measures(net, data, aside.nonzero()[:, 0]).items():
        print(name, {key: round(float(value), 4) for key, value in figures.items()})
    cfg = DetectConfig()
    net.save(arguments.output, load_features(cfg, device).name, cfg)
    print(f"weights: {arguments.output}")


if __name__ == "__main__":
    run_script(main)
