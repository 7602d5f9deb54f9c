"""Training side by side: ours, the standard recipe, and gsplat's default strategy, in one run.

    python -m benchmarks.training --class_name Spring --config configs/MIP/Spring.txt [--output DIR]

Every k-th gallery photo (`--held_out`) is kept from all of them and only measures. Ours fits colour
and reflectance as its defaults do, as one model of six channels; the standard recipe is the fit of
`--preset original`, two models of three channels; gsplat's DefaultStrategy (optional package, needs
a GPU) trains the same two with its own rasterizer. All use this repository's loss, photos and
held-out views; the clock stands still while a model is measured, and kernels are built before.
Where 30 000 steps are out of reach, `--original_steps` shortens the schedule of the last two in
proportion.
Prints a table; writes training.json and training.png (PSNR against wall time) to --output.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.files import write_json
from gaussian_renderer.fit import ORIGINAL, FitConfig, fit
from gaussian_renderer.fit_report import evaluate
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.points import PointCloud
from piad.cli import choose_device, run_script
from piad.config import PoseConfig
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.run_folder import RunFolder
from piad.scenes import load_scene

METHODS = ("ours", "original", "gsplat")
CURVE_POINTS = 12  # models measured along each training
STANDARD_STEPS = 30000
# whose values are steps of the standard schedule
STEP_KEYS = (
    "iterations", "sh_every", "background_from", "densify_from", "densify_until",
    "opacity_reset_every",
)  # fmt: skip


class Photos(Sequence):
    """The gallery's photos, some channels of colour over reflectance; loaded on access."""

    def __init__(self, views, mirrored, indices: Sequence[int], first: int, last: int) -> None:
        self.pairs = [(views[i], mirrored[i]) for i in indices]
        self.first, self.last = first, last

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        both = torch.cat([view.image() for view in self.pairs[index]])
        return both[self.first : self.last]


class Data:
    """Cameras and photos, fitted and held out.

    `photos(part, held)`: [C, H, W] each; part is "colour", "reflectance" or "both".
    """

    def __init__(self, scene, reflectance_scene, every: int) -> None:
        self.views, self.mirrored = scene.gallery, reflectance_scene.gallery
        self.points: PointCloud | None = scene.points
        count = len(self.views)
        self.held = list(range(0, count, every))
        self.fitted = [i for i in range(count) if i % every]

    def cameras(self, held: bool) -> list[Camera]:
        return [self.views[i].camera for i in (self.held if held else self.fitted)]

    def photos(self, part: str, held: bool) -> Photos:
        channels = {"both": (0, 6), "colour": (0, 3), "reflectance": (3, 6)}[part]
        indices = self.held if held else self.fitted
        return Photos(self.views, self.mirrored, indices, *channels)


class Curve:
    """Held-out quality of one training, against its own seconds."""

    def __init__(self, data: Data, part: str) -> None:
        self.cameras, self.photos = data.cameras(True), data.photos(part, True)
        self.split = 3 if part == "both" else 0
        self.part = part
        self.points: list[dict] = []

    def add(self, step: int, seconds: float, model: GaussianModel) -> None:
        """Measure a model."""
        row = {"step": step, "seconds": seconds, "num_gaussians": model.num_gaussians}
        if self.split:
            for name, first, last in (("colour", 0, 3), ("reflectance", 3, 6)):
                row[name] = self._measured(model.channels(first, last), first, last)
        else:
            row[self.part] = self._measured(model, 0, 3)
        self.points.append(row)

    def _measured(self, model: GaussianModel, first: int, last: int) -> dict:
        found = evaluate(model, self.cameras, [photo[first:last] for photo in self.photos])
        return {"psnr": found["psnr"], "ssim": found["ssim"]}


def shortened(config: FitConfig, steps: int) -> FitConfig:
    """The standard recipe with every step of its schedule scaled to `steps` in all."""
    share = steps / STANDARD_STEPS
    changes = {k: max(1, round(getattr(config, k) * share)) for k in STEP_KEYS}
    return replace(config, **changes)


def train_ours(data: Data, config: FitConfig, device, seed: int) -> dict[str, list[dict]]:
    """{both: curve} of one fit of six channels."""
    return {"both": _fitted(data, "both", config, device, seed)}


def train_original(data: Data, config: FitConfig, device, seed: int) -> dict[str, list[dict]]:
    """{colour: curve, reflectance: curve} of two fits by the standard recipe."""
    return {k: _fitted(data, k, config, device, seed) for k in ("colour", "reflectance")}


def _make_ready(data: Data, part: str, config: FitConfig, device, seed: int) -> None:
    """Two steps on a few photos: kernels are built and the device started once, not per object."""
    cameras, photos = data.cameras(False)[:4], data.photos(part, False)
    few = [photos[i] for i in range(len(cameras))]
    short = replace(config, iterations=2, initial_points=100)
    fit(cameras, few, short, device=device, seed=seed, progress=False)


def _fitted(data: Data, part: str, config: FitConfig, device, seed: int) -> list[dict]:
    _make_ready(data, part, config, device, seed)
    curve = Curve(data, part)
    began = time.monotonic()
    measured = 0.0

    def add(step: int, _seconds: float, model: GaussianModel) -> None:
        nonlocal measured
        now = time.monotonic()
        curve.add(step, now - began - measured, model)  # with the start of the fit
        measured += time.monotonic() - now

    fit(
        data.cameras(False), data.photos(part, False), config, initial=data.points, device=device,
        seed=seed, name=f"{part}, {config.iterations} steps", on_model=add,
        model_every=max(1, config.iterations // CURVE_POINTS),
    )  # fmt: skip
    return curve.points


def no_gsplat(device: torch.device) -> str | None:
    """Why gsplat can't be measured here, or None."""
    if device.type != "cuda":
        return "gsplat skipped: it needs a GPU, and this run is on " + device.type
    try:
        import gsplat
    except ImportError:
        return "gsplat skipped: not installed (pip install gsplat)"
    return None if hasattr(gsplat, "DefaultStrategy") else "gsplat skipped: older than 1.0"


def train_gsplat(data: Data, config: FitConfig, device, seed: int) -> dict[str, list[dict]]:
    """{colour: curve, reflectance: curve} by gsplat's DefaultStrategy."""
    from benchmarks.training_gsplat import train

    found = {}
    for part in ("colour", "reflectance"):
        curve = Curve(data, part)
        train(
            data.cameras(False), data.photos(part, False), data.points, config, device, seed,
            curve.add, max(1, config.iterations // CURVE_POINTS),
        )  # fmt: skip
        found[part] = curve.points
    return found


def table_rows(results: dict[str, dict[str, list[dict]]]) -> list[dict]:
    """One row per method: seconds of all its models, the last models' figures, their Gaussians."""
    rows = []
    for method, curves in results.items():
        last = {part: curve[-1] for part, curve in curves.items()}
        ends = list(last.values())
        row = {"method": method, "seconds": sum(end["seconds"] for end in ends)}
        row["num_gaussians"] = sum(end["num_gaussians"] for end in ends)
        for part in ("colour", "reflectance"):
            end = last.get(part, last.get("both"))
            row[f"{part}_psnr"], row[f"{part}_ssim"] = end[part]["psnr"], end[part]["ssim"]
        row["steps"] = ends[0]["step"]
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    """The rows as Markdown."""
    lines = [
        "| method | steps per model | seconds | Gaussians, all models | colour PSNR | SSIM "
        "| reflectance PSNR | SSIM |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['method']} | {r['steps']} | {r['seconds']:.1f} | {r['num_gaussians']} "
            f"| {r['colour_psnr']:.2f} | {r['colour_ssim']:.4f} "
            f"| {r['reflectance_psnr']:.2f} | {r['reflectance_ssim']:.4f} |"
        )
    return "\n".join(lines)


def plot(results: dict[str, dict[str, list[dict]]], path: Path) -> None:
    """Held-out PSNR of colour and reflectance against wall time, a line per method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, part in zip(figure.subplots(1, 2), ("colour", "reflectance"), strict=True):
        for method, curves in results.items():
            curve = curves.get(part, curves.get("both"))
            values = [point[part]["psnr"] for point in curve]
            axes.plot([p["seconds"] for p in curve], values, marker="o", markersize=3, label=method)
        axes.set(xlabel="wall time, s", ylabel="held-out PSNR, dB", title=part, xscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def compared(data: Data, cfg: PoseConfig, options: argparse.Namespace, device) -> dict:
    """{method: {part: curve}}."""
    ours = replace(cfg.fit, holdout=0, check_views=0)  # the benchmark holds out for all of them
    standard = shortened(FitConfig(**ORIGINAL), options.original_steps)
    trainings: dict[str, tuple[Callable, FitConfig]] = {
        "ours": (train_ours, ours),
        "original": (train_original, standard),
        "gsplat": (train_gsplat, standard),
    }
    results = {}
    for method in options.methods:
        reason = no_gsplat(device) if method == "gsplat" else None
        if reason is not None:
            print(reason)
            continue
        train, config = trainings[method]
        results[method] = train(data, config, device, cfg.seed)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the table, write JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--held_out", type=int, default=8, help="every k-th photo only measures")
    parser.add_argument("--original_steps", type=int, default=STANDARD_STEPS)
    parser.add_argument("--output", type=Path, default=Path("training_benchmark"))
    options, rest = parser.parse_known_args(argv)
    cfg = PoseConfig.from_command_line(rest)
    device = choose_device(cfg.device)
    scene = load_scene(cfg.data, cfg.class_name)
    net = ReflectanceNet.load(cfg.reflectance, device)
    gallery = replace(scene, queries=[])
    mirrored = to_reflectance(gallery, net, RunFolder(cfg).reflection, device, lambda x: x)
    data = Data(gallery, mirrored, options.held_out)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"{scene.name}: {len(data.fitted)} photos fitted, {len(data.held)} held out, on {where} "
        f"({torch.get_num_threads()} threads)"
    )
    results = compared(data, cfg, options, device)
    rows = table_rows(results)
    print(table(rows))
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {"device": where, "held_out": data.held, "ours": asdict(cfg.fit)}
    settings["original_steps"] = options.original_steps
    write_json(
        options.output / "training.json", {"settings": settings, "rows": rows, "curves": results}
    )
    plot(results, options.output / "training.png")
    print(f"{options.output}/training.json, {options.output}/training.png")


if __name__ == "__main__":
    run_script(main)
