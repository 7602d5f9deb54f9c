"""Times the rasterizer's C++ back end against its torch reference on the CPU, in one run.

    python benchmarks/rasterizer_cpu.py [--gaussians 20000] [--size 200] [--json FILE]

Scene: Gaussians in a unit shell, anisotropic, SH degree 3, opacity 0.05..0.95, camera at 3.2,
horizontal field of view 0.7 rad. Forward and backward are of all Gaussian parameters; "pose" is the
gradient of the view matrix alone. Rounds of both back ends alternate, so that what else the machine
does weighs on both; the median of the rounds' ratios is reported.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from pose_rasterizer import rasterize

CAMERA_DISTANCE = 3.2
FIELD_OF_VIEW_RAD = 0.7
MEDIAN_SCALE = 0.012  # world units: about 4 px (one sigma 0.9 px) at 200x200


def make_scene(num_gaussians: int, size: int, channels: int, seed: int = 0) -> dict:
    """Keyword arguments of `rasterize`, float32."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.randn(num_gaussians, 3, generator=g)
    radius = 0.7 + 0.3 * torch.rand(num_gaussians, 1, generator=g)
    viewmat = torch.eye(4)
    viewmat[2, 3] = CAMERA_DISTANCE
    focal = 0.5 * size / math.tan(FIELD_OF_VIEW_RAD / 2)
    return {
        "means": directions / directions.norm(dim=1, keepdim=True) * radius,
        "quats": torch.randn(num_gaussians, 4, generator=g),
        "scales": MEDIAN_SCALE * torch.exp(0.5 * torch.randn(num_gaussians, 3, generator=g)),
        "opacities": 0.05 + 0.9 * torch.rand(num_gaussians, generator=g),
        "sh": 0.3 * torch.randn(num_gaussians, 16, channels, generator=g),
        "viewmat": viewmat,
        "intrinsics": torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]),
        "size": (size, size),
        "background": torch.ones(channels),
    }


GAUSSIAN = ("means", "quats", "scales", "opacities", "sh")
TASKS = {"forward": (), "forward+backward": GAUSSIAN, "forward+pose": ("viewmat",)}


def seconds(scene: dict, weight, wanted: tuple, backend: str) -> float:
    """Wall time of one image and, where anything is wanted, its gradients."""
    leaves = {name: scene[name].clone().requires_grad_() for name in wanted}
    start = time.perf_counter()
    image = rasterize(**(scene | leaves), backend=backend).image
    if leaves:
        torch.autograd.grad(image, list(leaves.values()), weight)
    return time.perf_counter() - start


def measure(scene: dict, channels: int, rounds: int, fast_per_round: int) -> list[dict]:
    """One row per task: medians in ms of both back ends, and the median ratio."""
    weight = torch.randn(channels, *scene["size"], generator=torch.Generator().manual_seed(1))
    rows = []
    for task, wanted in TASKS.items():
        for _ in range(2):
            seconds(scene, weight, wanted, "cpu")
        cpu, reference, ratios = [], [], []
        for _ in range(rounds):
            fast = [seconds(scene, weight, wanted, "cpu") for _ in range(fast_per_round)]
            reference.append(seconds(scene, weight, wanted, "reference"))
            fast += [seconds(scene, weight, wanted, "cpu") for _ in range(fast_per_round)]
            ratios.append(reference[-1] / statistics.median(fast))
            cpu += fast
        rows.append(
            {
                "task": task,
                "cpu_ms": 1e3 * statistics.median(cpu),
                "cpu_fastest_ms": 1e3 * min(cpu),
                "reference_ms": 1e3 * statistics.median(reference),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
        )
    return rows


def main(argv=None) -> int:
    """Prints the table; writes JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaussians", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=200, help="side of the image, px")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fast_per_round", type=int, default=10)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args(argv)

    scene = make_scene(args.gaussians, args.size, args.channels)
    rows = measure(scene, args.channels, args.rounds, args.fast_per_round)
    print(
        f"{args.gaussians} Gaussians, {args.size}x{args.size} px, {args.channels} channels,"
        f" {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"
    )
    print(f"{'task':18}{'cpu ms':>9}{'fastest':>9}{'reference ms':>14}{'ratio':>8}  range")
    for r in rows:
        low, high = r["ratio_range"]
        print(
            f"{r['task']:18}{r['cpu_ms']:9.1f}{r['cpu_fastest_ms']:9.1f}"
            f"{r['reference_ms']:14.0f}{r['ratio']:8.0f}  {low:.0f}..{high:.0f}"
        )
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k != "json"}
        settings |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
        args.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
