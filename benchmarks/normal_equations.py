"""Cost of one call of pose_normal_equations in forward renderings of the same scene.

    python benchmarks/normal_equations.py [--gaussians 16000 --size 400 --channels 6 --repeats 7]
    python -m benchmarks.normal_equations --device cuda [--json out.json]

On the CPU both run on one thread, turn by turn; times are the processor's, so that other programs
on the machine don't count. On a GPU: 1 and 32 poses in one call, single calls between device events
(host work included) and replayed from a CUDA graph (the device alone), per pose, beside a forward
rendering of the same poses; kernels; the floor (bytes that must move, or the arithmetic); and how
far the answer is from the CPU's. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
from pose_rasterizer import pose_normal_equations, rasterize

BATCHES = (1, 32)
CPU_CASE = {"gaussians": 16000, "degree": 2}
GPU_CASE = {"gaussians": 100_000, "degree": 3}
# FP32 instructions per (pixel, splat) pair: alpha twice (the forward pass's and ours), blending (14
# each), six exponents (30), six weights and transmittances (18); with each colour 6, 3 of its own.
PAIR_OPS, COLOUR_OPS = 76, 9


def make_scene(num_gaussians: int, size: int, channels: int, degree: int) -> tuple[list, dict]:
    """Anisotropic Gaussians in a ball, camera at 3.2, horizontal field of view 0.7 rad."""
    g = torch.Generator().manual_seed(0)
    means = torch.randn(num_gaussians, 3, generator=g)
    means = 0.9 * means / means.norm(dim=1, keepdim=True)
    quats = torch.randn(num_gaussians, 4, generator=g)
    scales = 1.5 / num_gaussians**0.5 * (0.2 + torch.rand(num_gaussians, 3, generator=g))
    opacities = 0.05 + 0.9 * torch.rand(num_gaussians, generator=g)
    focal = 0.5 * size / math.tan(0.35)
    viewmat = torch.eye(4)
    viewmat[2, 3] = 3.2
    camera = {
        "sh": 0.4 * torch.randn(num_gaussians, (degree + 1) ** 2, channels, generator=g),
        "viewmat": viewmat[None],
        "intrinsics": torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]),
        "size": (size, size),
    }
    return [means, quats, scales, opacities], camera


def make_residuals(batch: int, size: int, channels: int) -> dict:
    """Random targets; all terms of the cost are on."""
    image = torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(1))
    return {
        "gain": torch.ones(batch, channels),
        "offset": torch.zeros(batch, channels),
        "target": image,
        "weight": torch.ones_like(image),
        "backdrop": torch.ones(batch, channels),
        "robust_scale": 0.1,
        "silhouette_target": image[:, :1].round(),
        "silhouette_weight": torch.ones_like(image[:, :1]),
    }


def measure_cpu(num_gaussians: int, size: int, channels: int, degree: int, repeats: int) -> dict:
    """Milliseconds of processor time of both, and their ratio (median over the repeats)."""
    torch.set_num_threads(1)
    gaussians, camera = make_scene(num_gaussians, size, channels, degree)
    residuals = make_residuals(1, size, channels)
    calls = {
        "forward_ms": lambda: rasterize(*gaussians, **camera),
        "system_ms": lambda: pose_normal_equations(*gaussians, **camera, **residuals),
        "system_held_colours_ms": lambda: pose_normal_equations(
            *gaussians, **camera, **residuals, direction_term=False
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if repeat:  # the first warms up
                times[name].append(1e3 * (time.process_time() - began))
    result = {name: statistics.median(values) for name, values in times.items()}
    result["ratio"] = result["system_ms"] / result["forward_ms"]
    result["ratio_held_colours"] = result["system_held_colours_ms"] / result["forward_ms"]
    return result


def turned(viewmat: torch.Tensor, batch: int) -> torch.Tensor:
    """[1, 4, 4] -> [B, 4, 4]: turned by up to 0.3 rad about the vertical axis."""
    angles = torch.linspace(-0.3, 0.3, batch) if batch > 1 else torch.zeros(1)
    turn = torch.eye(4).repeat(batch, 1, 1)
    turn[:, 0, 0] = turn[:, 2, 2] = angles.cos()
    turn[:, 0, 2], turn[:, 2, 0] = angles.sin(), -angles.sin()
    return viewmat @ turn


def floor_ms(pairs: float, count: int, case: dict, bandwidth: float) -> dict:
    """The least time of a pose, by bytes (model, target, weight, image once) and by operations."""
    channels, pixels = case["channels"], case["size"] ** 2
    coeffs = (case["degree"] + 1) ** 2
    moved = 4 * count * (11 + coeffs * channels) + 4 * pixels * (3 * channels + 3)
    device = torch.cuda.get_device_properties(0)
    rate = device.multi_processor_count * 128 * getattr(device, "clock_rate", 1_755_000) * 1e3
    operations = pairs * (PAIR_OPS + COLOUR_OPS * channels)
    return {"bytes_ms": 1e3 * moved / bandwidth, "operations_ms": 1e3 * operations / rate}


def distance(found, exact) -> dict:
    """Relative norm of the difference, by output."""
    pairs = zip(found._fields, found, exact, strict=True)
    return {k: float((a.cpu().double() - b).norm() / b.double().norm()) for k, a, b in pairs}


def calls_of(gaussians: list, camera: dict, given: dict) -> dict:
    """What is timed on a GPU, by name."""

    def system(**options):
        return lambda: pose_normal_equations(*gaussians, **given, **options)

    return {
        "forward": lambda: rasterize(*gaussians, **{k: given[k] for k in camera}),
        "system": system(),
        "system, held colours": system(direction_term=False),
        "system, light by tile": system(light="tile"),
    }


def time_gpu(call, batch: int, repeats: int) -> dict:
    """Times of a call per pose, its kernels and its peak memory."""
    from benchmarks.rasterizer import kernel_times, measure, measure_graph

    single = measure(call, repeats)
    return {
        "ms_per_pose": single["ms"] / batch,
        "ms_quartiles": [v / batch for v in single["ms_quartiles"]],
        "graph_ms_per_pose": measure_graph(call, repeats) / batch,
        "peak_mib": single["peak_mib"],
        "kernels_us_per_pose": {k: v / batch for k, v in kernel_times(call).items()},
    }


@torch.no_grad()
def measure_gpu(num_gaussians: int, size: int, channels: int, degree: int, repeats: int) -> dict:
    """The normal equations and a forward rendering, for each of BATCHES."""
    from benchmarks.rasterizer import copy_bandwidth, num_pairs

    case = {"size": size, "channels": channels, "degree": degree}
    gaussians, camera = make_scene(num_gaussians, size, channels, degree)
    there = [t.cuda() for t in gaussians]
    names = ("means", "quats", "scales", "opacities")
    scene = dict(zip(names, there, strict=True)) | {
        "viewmat": camera["viewmat"][0].cuda(),
        "intrinsics": camera["intrinsics"].cuda(),
    }
    pairs, bandwidth = num_pairs(scene, (size, size)), copy_bandwidth()
    rows = []
    for batch in BATCHES:
        given = camera | {"viewmat": turned(camera["viewmat"], batch)}
        given |= make_residuals(batch, size, channels)
        on_gpu = {k: v.cuda() if torch.is_tensor(v) else v for k, v in given.items()}
        row = {"batch": batch, "pairs": pairs}
        row |= floor_ms(pairs, num_gaussians, case, bandwidth)
        for name, call in calls_of(there, camera, on_gpu).items():
            row[name] = time_gpu(call, batch, repeats)
        row["ratio"] = row["system"]["graph_ms_per_pose"] / row["forward"]["graph_ms_per_pose"]
        for light in ("global", "tile") if batch == 1 else ():
            exact = pose_normal_equations(*gaussians, **given, light=light)
            found = pose_normal_equations(*there, **on_gpu, light=light)
            row[f"distance_to_cpu_{light}"] = distance(found, exact)
        rows.append(row)
    return {"device_name": torch.cuda.get_device_name(), "bandwidth": bandwidth, "rows": rows}


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for name in ("gaussians", "degree"):
        defaults = f"default {CPU_CASE[name]}, on a GPU {GPU_CASE[name]}"
        parser.add_argument(f"--{name}", type=int, help=defaults)
    for name, default in (("size", 400), ("channels", 6), ("repeats", None)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    on_gpu = args.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("error: torch sees no CUDA device; leave out --device cuda")
    case = GPU_CASE if on_gpu else CPU_CASE
    gaussians = args.gaussians or case["gaussians"]
    degree = case["degree"] if args.degree is None else args.degree
    repeats = args.repeats or (30 if on_gpu else 7)
    measured = measure_gpu if on_gpu else measure_cpu
    result = measured(gaussians, args.size, args.channels, degree, repeats)
    facts = {"gaussians": gaussians, "size": args.size, "channels": args.channels, "degree": degree}
    text = json.dumps(facts | {"repeats": repeats} | result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
