"""Times the rasterizer's C++ back end against its torch reference on the CPU, in one run.

    python benchmarks/rasterizer_cpu.py [--gaussians 20000] [--size 200] [--json FILE]

Scene: Gaussians in a unit shell, anisotropic, SH degree 3, opacity 0.05..0.95, camera at 3.2,
horizontal field of view 0.7 rad. Forward and backward are of all Gaussian parameters; "pose" is the
gradient of the view matrix alone. Rounds of both back ends alternate, so that what else the machine
does weighs on both; the median of the rounds' ratios is reported.
"""

import argparse
import ctypes
import json
import math
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from pose_rasterizer import cpu, rasterize

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


def seconds(scene: dict, weight, wanted: tuple, backend: str) -> tuple[float, float]:
    """(Wall time, CPU time of all threads) of one image and, where wanted, its gradients."""
    leaves = {name: scene[name].clone().requires_grad_() for name in wanted}
    start = time.perf_counter(), time.process_time()
    image = rasterize(**(scene | leaves), backend=backend).image
    if leaves:
        torch.autograd.grad(image, list(leaves.values()), weight)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def arithmetic_floor(scene: dict, channels: int) -> dict:
    """What blending the scene costs, and the floor of each task in ms."""
    lib = cpu.library()
    lib.pose_cpu_peak_gflops.restype = ctypes.c_double
    lib.pose_cpu_statistics.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64)]
    tensors = [scene[k] for k in (*GAUSSIAN, "viewmat", "intrinsics", "background")]
    inputs = (*tensors[:5], *(t[None] for t in tensors[5:]), None)
    settings = cpu.Settings(scene["size"], 16, 3, 0.01)
    _, frames = cpu.forward(inputs, settings, keep=True)
    counts = (ctypes.c_int64 * 4)()
    lib.pose_cpu_statistics(frames[0].handle, counts)
    peak = lib.pose_cpu_peak_gflops() * torch.get_num_threads()
    pairs = 8 * counts[2]
    first = pairs * (24 + 2 * (channels + 1)) / peak * 1e-6
    both = first + pairs * (35 + 4 * channels) / peak * 1e-6
    return {
        "tile_entries": counts[0],
        "tile_entries_blended": counts[1],
        "pixel_pairs": pairs,
        "pixel_pairs_lit": counts[3],
        "peak_gflops": peak,
        "floor_ms": dict(zip(TASKS, (first, both, both), strict=True)),
    }


def measure(scene: dict, channels: int, rounds: int, fast_per_round: int) -> list[dict]:
    """One row per task: medians in ms of both back ends, and the median ratio."""
    weight = torch.randn(channels, *scene["size"], generator=torch.Generator().manual_seed(1))
    rows = []
    for task, wanted in TASKS.items():
        for _ in range(2):
            seconds(scene, weight, wanted, "cpu")
        fast, slow, ratios = [], [], []
        for _ in range(rounds):
            near = [seconds(scene, weight, wanted, "cpu") for _ in range(fast_per_round)]
            slow.append(seconds(scene, weight, wanted, "reference"))
            near += [seconds(scene, weight, wanted, "cpu") for _ in range(fast_per_round)]
            ratios.append([slow[-1][k] / statistics.median(t[k] for t in near) for k in (0, 1)])
            fast += near
        wall, busy = ([t[k] for t in fast] for k in (0, 1))
        rows.append(
            {
                "task": task,
                "cpu_ms": 1e3 * statistics.median(wall),
                "cpu_fastest_ms": 1e3 * min(wall),
                "cpu_busy_ms": 1e3 * min(busy),
                "reference_ms": 1e3 * statistics.median(t[0] for t in slow),
                "reference_busy_ms": 1e3 * min(t[1] for t in slow),
                "ratio": statistics.median(r[0] for r in ratios),
                "ratio_range": [min(r[0] for r in ratios), max(r[0] for r in ratios)],
                "ratio_busy": statistics.median(r[1] for r in ratios),
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
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    scene = make_scene(args.gaussians, args.size, args.channels)
    floor = arithmetic_floor(scene, args.channels)
    rows = measure(scene, args.channels, args.rounds, args.fast_per_round)
    print(
        f"{args.gaussians} Gaussians, {args.size}x{args.size} px, {args.channels} channels,"
        f" {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}\n"
        f"{floor['tile_entries']} tile entries ({floor['tile_entries_blended']} blended),"
        f" {floor['pixel_pairs'] / 1e6:.2f} M pixel-Gaussian pairs"
        f" ({floor['pixel_pairs_lit'] / 1e6:.2f} M lit), peak {floor['peak_gflops']:.0f} Gflop/s"
    )
    print(
        f"{'task':18}{'cpu ms':>9}{'fastest':>9}{'busy':>7}{'floor':>7}"
        f"{'reference ms':>14}{'busy':>7}{'ratio':>7}{'busy':>6}  range"
    )
    for r in rows:
        low, high = r["ratio_range"]
        print(
            f"{r['task']:18}{r['cpu_ms']:9.1f}{r['cpu_fastest_ms']:9.1f}{r['cpu_busy_ms']:7.1f}"
            f"{floor['floor_ms'][r['task']]:7.1f}{r['reference_ms']:14.0f}"
            f"{r['reference_busy_ms']:7.0f}{r['ratio']:7.0f}{r['ratio_busy']:6.0f}"
            f"  {low:.0f}..{high:.0f}"
        )
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k != "json"}
        settings |= {"torch": torch.__version__}
        args.json.write_text(
            json.dumps({"settings": settings, "floor": floor, "rows": rows}, indent=1)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
