"""How well reflectance nets remove the light and keep the object, and what they cost.

    python -m benchmarks.reflectance --groups data/pairs

For every way to make reflectance, over view groups (one view under several lights, those that
index.json holds out from training unless --all): the measures of piad/reflectance_measures.py, the
factor by which two lights differ less than in the photographs, and the processor time of a 400x400
image beside that of one 3x3 convolution of 32 channels (a yardstick of the machine).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from piad.reflectance import ReflectanceConfig, ReflectanceNet
from piad.reflectance_data import Group, read_groups
from piad.reflectance_measures import eroded, fit_gain, geometric_mean, measure
from piad.reflectance_net import DecompositionNet, Retinex

COST_SIDE_PX = 400
COLUMNS = ("light", "factor", "defect", "shift", "spill", "cpu ms")


def seeded_original() -> DecompositionNet:
    """The paper's structure with seeded weights: what is measured is the structure's cost."""
    torch.manual_seed(0)
    return DecompositionNet().eval()


def methods(weights: list[str]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Every way to make reflectance, by name."""
    table: dict[str, Callable[[Tensor], Tensor]] = {
        "photograph": lambda images: images,
        "Retinex, sigma 48": Retinex((48.0,)),
        "Retinex, sigma 16": Retinex((16.0,)),
        "Retinex, sigmas 16, 48": Retinex((16.0, 48.0)),
        "original's structure, seeded": seeded_original(),
    }
    for path in weights or [""]:
        cfg = ReflectanceConfig(
            "auto" if path.endswith((".pth", ".ckpt")) else "ours", reflectance_weights=path
        )
        net = ReflectanceNet.load(cfg)
        table[net.name] = net
    return table


def fitted_gain_row(groups: list[Group]) -> dict[str, float]:
    """The photograph with gain and offset per channel fitted over the object (the truth known)."""
    rows = []
    for group in groups:
        images = fit_gain(group.images.float() / 255, eroded(group.mask))
        # The defect measure paints a patch, to which the fit would answer: it is left out here.
        rows.append(measure(lambda _, images=images: images, group, num_patches=0))
    return geometric_mean(rows)


def cpu_ms(run: Callable[[Tensor], Tensor], image: Tensor, repeats: int = 5) -> float:
    """Least processor time of a call over `repeats`, ms, on one thread."""
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.process_time()
            run(image)
            times.append(1e3 * (time.process_time() - start))
    return min(times[1:])


def view_group_table(groups: list[Group], table: dict[str, Callable]) -> dict[str, dict]:
    """Measures of every method; `factor` is the photographs' light difference over its own."""
    rows = {}
    image = torch.rand(1, 3, COST_SIDE_PX, COST_SIDE_PX)
    with torch.inference_mode():
        for name, run in table.items():
            rows[name] = geometric_mean(
                [measure(run, group, seed) for seed, group in enumerate(groups)]
            )
            rows[name]["cpu ms"] = cpu_ms(run, image)
        rows["photograph, gain and offset fitted"] = fitted_gain_row(groups)
    for row in rows.values():
        row["factor"] = rows["photograph"]["light"] / row["light"]
    return rows


def print_table(rows: dict[str, dict[str, float]], columns: tuple[str, ...]) -> None:
    """A Markdown table."""
    print("| reflectance | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, row in rows.items():
        cells = [f"{row[column]:.3g}" if column in row else "" for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=Path, required=True, help="folder of view groups")
    parser.add_argument("--all", action="store_true", help="measure the training groups instead")
    parser.add_argument("--weights", nargs="*", default=[], help="weights files; default: shipped")
    parser.add_argument("--only", default="", help="groups with this in their name")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    groups = [
        group
        for group in read_groups(arguments.groups, held_out=not arguments.all)
        if arguments.only in group.name
    ]
    num_lights = sum(len(group.images) for group in groups)
    print(f"{len(groups)} view groups, {num_lights} images\n")
    print_table(view_group_table(groups, methods(arguments.weights)), COLUMNS)
    yardstick = cpu_ms(
        nn.Conv2d(32, 32, 3, padding=1), torch.rand(1, 32, COST_SIDE_PX, COST_SIDE_PX)
    )
    print(f"\nyardstick, one 3x3 convolution of 32 channels: {yardstick:.0f} ms")


if __name__ == "__main__":
    main()
