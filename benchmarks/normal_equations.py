"""Cost of one call of pose_normal_equations in forward renderings of the same scene.

    python benchmarks/normal_equations.py [--gaussians 16000 --size 400 --channels 6 --repeats 7]

Both run on one thread, turn by turn; times are the processor's, so that other programs on the
machine don't count. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time

import torch
from pose_rasterizer import pose_normal_equations, rasterize


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


def measure(num_gaussians: int, size: int, channels: int, degree: int, repeats: int) -> dict:
    """Milliseconds of processor time of both, and their ratio (median over the repeats)."""
    gaussians, camera = make_scene(num_gaussians, size, channels, degree)
    image = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(1))
    light = {"gain": torch.ones(1, channels), "offset": torch.zeros(1, channels)}
    residuals = light | {
        "target": image,
        "weight": torch.ones_like(image),
        "backdrop": torch.ones(1, channels),
        "robust_scale": 0.1,
        "silhouette_target": image[:, :1].round(),
        "silhouette_weight": torch.ones_like(image[:, :1]),
    }
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


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("gaussians", 16000), ("size", 400), ("channels", 6), ("degree", 2), ("repeats", 7)
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(args.gaussians, args.size, args.channels, args.degree, args.repeats)
    print(json.dumps(vars(args) | result, indent=1))


if __name__ == "__main__":
    main()
