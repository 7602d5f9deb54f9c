"""What each part of the detection is worth, and what a memory bank without poses does.

    python -m benchmarks.detection --obj Spring [--json FILE]

Needs a run of pose_estimation.py. Every method judges the same queries with the same feature
network in the same process; all but the memory bank compare with the same rendering at the run's
pose. Ours is as configured, the paper's score has the detection choices of `--preset original`, the
others are ours without a part; from "no change net" on, without that net too. The memory bank is
PatchCore's (benchmarks/memory_bank.py), of all gallery photographs. Seconds per query are medians,
methods taking turns; set-up, pose and
reflectance image are not in them, and on a CPU they compare within one run only. All other options
go to the config.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from benchmarks.memory_bank import MemoryBank, image_patches, pixel_map
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_json
from piad.anomaly import ORIGINAL, DetectConfig, Features
from piad.change_net import load_change_net
from piad.cli import choose_device, progress, run_script
from piad.close_up import enlarging
from piad.comparison import OK, Comparer, Comparison, pair_by_id
from piad.config import TestConfig
from piad.evaluation import evaluate, labels_and_scores, query_lights
from piad.features import load_features
from piad.metrics import auroc_interval
from piad.models import ModelPair, load_models, models_fingerprint
from piad.normality import kept_normality
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.run_folder import RunFolder
from piad.scenes import Query, load_scene
from piad.view_dependence import flawless_look

OURS, BANK = "ours", "memory bank"
NO_NET = {"detect_change": 0.0}  # it knows no comparison but the default
# method: its changes to the configured detection
CHANGES: dict[str, dict] = {
    OURS: {},
    "paper's score": ORIGINAL,
    "no detail": {"detect_detail_views": 0},
    "whole view dependence": {"detect_view_dependence": 1.0},
    "glare counts in full": {"detect_glare": 0.0},
    "edge-on counts in full": {"detect_facing": 0.0},
    "hue counts nothing": {"detect_hue": 0.0},
    "no change net": NO_NET,
    "whole photographs": NO_NET | {"detect_zoom": 1.0},
    "colour only": NO_NET | {"detect_branches": "colour"},
    "reflectance only": NO_NET | {"detect_branches": "reflectance"},
    "no normality": NO_NET | {"detect_normal_views": 0},
    "no relighting": NO_NET | {"relight_window": 0.0},
    "no light in features": NO_NET | {"relight_features": 0.0},
}
BANK_LAYERS = (2, 3)  # strides 8 and 16, as PatchCore takes of its network
COLUMNS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro_30": "AUPRO 0.3",
    "seconds_per_query": "s/query",
}
REPORTED = (
    "num_queries",
    "num_not_found",
    "image_auroc_interval",
    "less_ours",
    "by_light",
    "queries",
)


class Method(Protocol):
    """Judges one query at its record's pose, as `Comparer` does."""

    def compare(
        self, query: Query, reflectance: Query, record: dict, light: str | None = None
    ) -> Comparison: ...


class BankMethod:
    """The memory bank as a method: needs neither pose nor reflectance."""

    def __init__(self, bank: MemoryBank, net: Features, folder: Path) -> None:
        self.bank, self.net, self.folder = bank, net, folder

    def compare(
        self, query: Query, reflectance: Query, record: dict, light: str | None = None
    ) -> Comparison:
        """Score a query; its map is kept in the folder."""
        image = query.image()
        distances, score = self.bank.score(image_patches(image, self.net, BANK_LAYERS))
        path = self.folder / query.type / f"{query.stem}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, map=pixel_map(distances, image.shape[-2:]).numpy())
        return Comparison(query, OK, score, path, light)


def variants(cfg: DetectConfig, wanted: Sequence[str] = tuple(CHANGES)) -> dict[str, DetectConfig]:
    """{method: its choices} of the methods wanted that compare with a rendering."""
    return {name: replace(cfg, **CHANGES[name]) for name in CHANGES if name in wanted}


def comparers(
    models: ModelPair,
    pairs: list,
    net: Features,
    cfg: DetectConfig,
    run: RunFolder,
    folder: Path,
    wanted: Sequence[str],
) -> dict[str, Method]:
    """A comparer per variant, with a normality of its own; ours takes what the run has kept."""
    models_id = models_fingerprint(run)
    found: dict[str, Method] = {}
    for name, choices in variants(cfg, wanted).items():
        shown, detail = flawless_look(models, pairs, choices)
        change = load_change_net(choices, net, models.background.device)
        choices = enlarging(choices, shown, (view.camera for view, _ in pairs))
        kept = (run.cache if name == OURS else folder / name) / "normality.safetensors"
        sums = kept_normality(
            kept,
            shown,
            models_id,
            pairs,
            net,
            choices,
            lambda items, name=name: progress(items, f"normality, {name}"),
            detail,
        )
        normality = None if sums is None else sums.normality()
        judge = choices, folder / name, normality, detail, change
        found[name] = Comparer(shown, models_id, net, *judge)
    return found


def judge_all(
    methods: Mapping[str, Method],
    pairs: list[tuple[Query, Query]],
    records: Mapping[str, dict],
    lights: Mapping[str, str],
) -> tuple[dict[str, list[Comparison]], dict[str, float]]:
    """Comparisons and median seconds per query of each method; the methods take turns."""
    comparisons: dict[str, list[Comparison]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for query, reflectance in progress(pairs, "queries"):
        for name, method in methods.items():
            start = time.perf_counter()
            light = lights.get(query.id)
            comparisons[name].append(method.compare(query, reflectance, records[query.id], light))
            seconds[name].append(time.perf_counter() - start)
    return comparisons, {name: statistics.median(times) for name, times in seconds.items()}


def row(own: list[Comparison], ours: list[Comparison], seconds: float, masks: bool) -> dict:
    """One method's figures, and the interval of its image AUROC less that of ours."""
    summary = evaluate(own, masks).summary | {"seconds_per_query": seconds, "less_ours": None}
    if summary["image_auroc"] is not None:
        labels, scores = map(np.array, labels_and_scores(own))
        summary["less_ours"] = auroc_interval(
            labels, scores, less=np.array(labels_and_scores(ours)[1])
        )
    return {key: summary[key] for key in (*COLUMNS, *REPORTED)}


def table(rows: Mapping[str, dict]) -> str:
    """The figures as Markdown; last, the bootstrap's 95 % interval of image AUROC less ours."""
    lines = [
        f"| method | {' | '.join(COLUMNS.values())} | image AUROC less ours |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, figures in rows.items():
        cells = ["-" if figures[key] is None else f"{figures[key]:.3f}" for key in COLUMNS]
        bounds = figures["less_ours"] if name != OURS else None
        cells.append("-" if bounds is None else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Judge every query by every method, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument(
        "--bank_share", type=float, default=0.01, help="patches the memory bank keeps, 0..1"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=[*CHANGES, BANK], help="besides ours; default: all"
    )
    options, rest = parser.parse_known_args(argv)
    wanted = [OURS, *(options.methods or (*CHANGES, BANK))]
    if not 0 < options.bank_share <= 1:
        raise UserError(f"--bank_share must lie in 0..1, got {options.bank_share:g}; correct it")
    cfg = TestConfig.from_command_line(rest)
    device = choose_device(cfg.device)
    scene = load_scene(cfg.data, cfg.class_name)
    with RunFolder.open(cfg) as run, tempfile.TemporaryDirectory() as temporary:
        reflectance_net = ReflectanceNet.load(cfg.reflectance, device)
        reflectance = to_reflectance(scene, reflectance_net, run.reflection, device)
        models, net = load_models(run, device), load_features(cfg.detect, device)
        gallery = list(zip(scene.gallery, reflectance.gallery, strict=True))
        methods = comparers(models, gallery, net, cfg.detect, run, Path(temporary), wanted)
        if BANK in wanted:
            images = (view.image().to(device) for view in progress(scene.gallery, BANK))
            bank = MemoryBank.learn(images, net, BANK_LAYERS, options.bank_share)
            methods[BANK] = BankMethod(bank, net, Path(temporary, BANK))
        pairs = pair_by_id(scene.queries, reflectance.queries)
        comparisons, seconds = judge_all(methods, pairs, run.poses, query_lights(scene))
        rows = {
            name: row(own, comparisons[OURS], seconds[name], scene.has_masks)
            for name, own in comparisons.items()
        }
    print(table(rows))
    if options.json:
        facts = {
            "class_name": cfg.class_name,
            "weights": {"features": net.name, "reflectance": reflectance_net.name},
            "device": str(device),
            "threads": torch.get_num_threads(),
            "detect": asdict(cfg.detect),
            "changes": CHANGES,
            "bank": {"layers": BANK_LAYERS, "share": options.bank_share},
            "methods": rows,
        }
        write_json(options.json, facts)


if __name__ == "__main__":
    run_script(main)
