"""Seconds per query of the comparison alone, beside the feature network's own passes.

    python -m benchmarks.comparison_time --obj Spring [--batch 16] [--repeats 5] [--json FILE]

Needs a run of pose_estimation.py. Photographs and reflectance images are read before; timed are the
renderings at the run's poses, detail, light, features, distances, normality, smoothing and scores,
until the scores are on the host. The network's passes are those over the images compared
(photograph, rendering and their reflectance, cut to the object and enlarged), by the network as it
is run here and, for Lite2, as its library has it (norms not folded, channels first; on a CPU one
image at a time as well), and over as many whole photographs, which is what they cost without
close-ups; all take turns, batch by batch. Medians over repeats, after one that warms up. All other
options go to the config.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import timm
import torch
from torch import Tensor

from gaussian_renderer.files import write_json
from piad.anomaly import DetectConfig, Features
from piad.anomaly_map import image_scores
from piad.change_net import load_change_net
from piad.cli import choose_device, run_script
from piad.close_up import enlarged, enlarging
from piad.comparison import Comparer, Job, pair_by_id
from piad.config import TestConfig
from piad.features import load_features
from piad.models import ModelPair, load_models, models_fingerprint
from piad.normality import kept_normality
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.scoring import Shot, anomalies_at, batch_size, batches, close_ups
from piad.view_dependence import flawless_look


def measured(
    work: Sequence[Sequence[Callable[[], object]]], device: torch.device, repeats: int
) -> list[list[float]]:
    """Wall and processor seconds (this process's) of each kind of work, medians over `repeats`.

    Kinds take turns, a part of each after the other, so that what else the machine does hits all
    of them alike; a first round warms up.
    """
    rounds = []
    for _ in range(repeats + 1):
        spent = [[0.0, 0.0] for _ in work]
        for parts in zip(*work, strict=True):
            for own, part in zip(spent, parts, strict=True):
                _wait(device)
                wall, processor = time.perf_counter(), time.process_time()
                part()
                _wait(device)
                own[0] += time.perf_counter() - wall
                own[1] += time.process_time() - processor
        rounds.append(spent)
    return [
        [statistics.median(column) for column in zip(*kind, strict=True)]
        for kind in zip(*rounds[1:], strict=True)
    ]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def score(comparer: Comparer, batch: Sequence[Shot]) -> list[float]:
    """Image scores of shots compared at once, on the host."""
    judge = comparer.net, comparer.cfg, comparer.normality, comparer.change
    found = anomalies_at(comparer.models, batch, *judge)
    return image_scores(found.counted, comparer.cfg).tolist()


@torch.inference_mode()
def pass_through(net: Features, images: Sequence[Tensor]) -> None:
    """A pass of the network over each batch of images [B, 3, H, W]."""
    for batch in images:
        net.features(batch)


def library_network(net: Features, device: torch.device) -> torch.nn.Module | None:
    """timm's own Lite2 up to the last stage that is used, weights at random; None for others."""
    if "Lite2" not in net.name:
        return None
    own = timm.create_model("tf_efficientnet_lite2", features_only=True, out_indices=(0, 1, 2, 3))
    return own.eval().requires_grad_(False).to(device)


@torch.inference_mode()
def library_pass(net: torch.nn.Module, images: Sequence[Tensor]) -> None:
    """`pass_through` of a library's network."""
    for batch in images:
        for part in [batch] if batch.is_cuda else batch.split(1):
            net(part)


def compared_images(
    models: ModelPair, shots: Sequence[Shot], cfg: DetectConfig, copies: int
) -> list[Tensor]:
    """What the network sees of shots, in the batches in which it does; `copies` of each."""
    device, found = models.background.device, []
    for group in close_ups(models, shots, cfg):
        photos = torch.stack([shot.photo for _, shot, _ in group]).to(device)
        found.append(enlarged(photos, cfg.detect_zoom).repeat(copies, 1, 1, 1))
    return found


def load(cfg: TestConfig, device: torch.device) -> tuple[Comparer, list[Shot]]:
    """The comparer of a run, and its queries that have a pose."""
    scene = load_scene(cfg.data, cfg.class_name)
    with RunFolder.open(cfg) as run:
        net = ReflectanceNet.load(cfg.reflectance, device)
        reflectance = to_reflectance(scene, net, run.reflection, device)
        models, features = load_models(run, device), load_features(cfg.detect, device)
        gallery = list(zip(scene.gallery, reflectance.gallery, strict=True))
        models, detail = flawless_look(models, gallery, cfg.detect)
        models_id, path = models_fingerprint(run), run.cache / "normality.safetensors"
        detect = enlarging(cfg.detect, models, (view.camera for view in scene.gallery))
        learnt = models, models_id, gallery, features, detect
        sums = kept_normality(path, *learnt, detail=detail)
        normality = None if sums is None else sums.normality()
        names = models, models_id, features, detect
        change = load_change_net(cfg.detect, features, device)
        comparer = Comparer(*names, run.results / "maps", normality, detail, change)
        pairs = pair_by_id(scene.queries, reflectance.queries)
        jobs = [Job(query, other, run.poses[query.id]) for query, other in pairs]
        jobs = sorted((job for job in jobs if job.poses), key=comparer.sizes)
        return comparer, [job.shots(detail)[0] for job in jobs]


def main(argv: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--batch", type=int, help="queries compared at once; by the device")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file to write")
    options, rest = parser.parse_known_args(argv)
    cfg = TestConfig.from_command_line(rest)
    device = choose_device(cfg.device)
    size = options.batch or batch_size(device)
    comparer, shots = load(cfg, device)
    branches = 2 if cfg.detect.detect_branches == "both" else 1
    groups = list(batches(shots, size))
    copies = 2 * branches  # photographs and renderings of every branch

    def seen(cfg: DetectConfig) -> list[list[Tensor]]:
        return [compared_images(comparer.models, batch, cfg, copies) for batch in groups]

    compared, whole = seen(comparer.cfg), seen(replace(comparer.cfg, detect_zoom=1.0))
    library = library_network(comparer.net, device)
    work = {
        "comparison": [partial(score, comparer, batch) for batch in groups],
        "network": [partial(pass_through, comparer.net, images) for images in compared],
        "network, whole photographs": [
            partial(pass_through, comparer.net, images) for images in whole
        ],
    }
    if library is not None:
        work["network, timm's"] = [partial(library_pass, library, images) for images in compared]
    found = measured(list(work.values()), device, options.repeats)
    figures = {
        name: [seconds / len(shots) for seconds in own]
        for name, own in zip(work, found, strict=True)
    }
    facts = {
        "class_name": cfg.class_name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "queries": len(shots),
        "batch": size,
        "repeats": options.repeats,
        "wall_ms_per_query": {name: 1e3 * wall for name, (wall, _) in figures.items()},
        "cpu_ms_per_query": {name: 1e3 * cpu for name, (_, cpu) in figures.items()},
    }
    for kind in ("wall", "cpu"):
        own = facts[f"{kind}_ms_per_query"]
        networks = (
            f"{name} {value:.2f} ms, ratio {own['comparison'] / max(value, 1e-9):.2f}"
            for name, value in own.items()
            if name != "comparison"
        )
        print(
            f"{cfg.class_name}, batch {size}, {kind}: comparison {own['comparison']:.2f} ms a "
            f"query; {'; '.join(networks)}"
        )
    if options.json:
        write_json(options.json, facts)


if __name__ == "__main__":
    run_script(main)
