"""Train the default reflectance net on view groups, photographs and synthetic light.

    python -m piad.train_reflectance --groups data/pairs --photographs data/MIP/Spring/train

A view group is a folder with one view under several lights (`data/make` renders them); without
any, scikit-image's photographs under synthetic light are enough for a usable net. The same seed,
data and number of threads give the same weights. Equations: docs/method.md, reflectance.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from piad.reflectance import SHIPPED_WEIGHTS
from piad.reflectance_data import (
    Group,
    paint,
    random_crop,
    read_groups,
    read_photographs,
    relight,
    sample_photographs,
)
from piad.reflectance_net import IlluminationNet, srgb_to_linear

MATTE_FLOOR = 0.01  # keeps log albedo finite in the dark, linear units
LEARNING_RATE = 2e-3
# Objects count more than the plain background, which fits by itself.
BACKGROUND_WEIGHT = 0.3
# Weights of the loss: chosen by benchmarks/reflectance.py on held-out groups.
WEIGHTS = {"same": 1.0, "relative": 0.5, "gradient": 0.5, "smooth": 0.05}


def log_reflectance(net: IlluminationNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """log(R / (1 - R)) = log I - log L, and log L; both [B, 3, H, W]."""
    floored, log_light = net.decompose(images)
    return torch.log(floored) - log_light, log_light


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours along rows and columns of [..., H, W]."""
    return image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]


def median_gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Median over K lights of the gradients of log images [K, 3, H, W] sRGB.

    Of images of one scene under many lights, the reflectance whose gradients are the median of
    theirs is the most likely one (Weiss 2001, intrinsic images from image sequences).
    """
    return tuple(
        part.median(dim=0).values
        for part in gradients(torch.log(srgb_to_linear(images) + MATTE_FLOOR))
    )


def make_example(group: Group, side: int, generator: Generator) -> dict[str, Tensor]:
    """One training example: two lights of a crop, the second with a painted patch."""
    images, mask = random_crop(group, side, generator)
    num_lights = images.shape[0]
    first, second = torch.randperm(num_lights, generator=generator)[[0, -1]].tolist()
    # Rendered lights are light enough at times; photographs know no other light than ours.
    real = num_lights > 1 and torch.rand((), generator=generator) < 0.5
    strength = 0.0 if real else (0.6 if num_lights > 1 else 1.0)
    painted, change = paint(images[second], generator)
    if torch.rand((), generator=generator) < 0.4:
        painted, change = images[second], torch.zeros_like(change)
    along, down = median_gradients(images)
    return {
        "first": relight(images[first], generator, strength) if strength else images[first],
        "second": relight(painted, generator, strength) if strength else painted,
        "change": change,
        "weight": torch.where(mask, 1.0, BACKGROUND_WEIGHT)[None],
        "along": along,
        "down": down,
    }


def weighted_mean(value: Tensor, weight: Tensor) -> Tensor:
    """Mean of [B, C, H, W] under weights [B, 1, H, W]."""
    return (value * weight).sum() / (weight.sum() * value.shape[1])


def losses(net: IlluminationNet, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss on a batch of examples (scalars).

    same: R under both lights agrees, but for the painted patch, which must show in full.
    relative: the same as a fraction of R's own contrast, so that a flat R is no way out.
    gradient: R's gradients follow the median gradients over the lights, at two scales.
    smooth: the illumination has small gradients.
    """
    weight = batch["weight"]
    first, light_first = log_reflectance(net, batch["first"])
    second, light_second = log_reflectance(net, batch["second"])
    difference = (second - first - batch["change"]).abs()
    same = weighted_mean(difference, weight)
    per_image = (difference * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * 3)
    level = (first * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
    contrast = ((first - level).abs() * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * 3)
    relative = (per_image / (contrast + 0.05)).mean()
    along, down = gradients(first)
    gradient = (along - batch["along"]).abs().mean() + (down - batch["down"]).abs().mean()
    # Over 8 px the sum of gradients is the change of level that eyes and features see.
    for mine, wanted, kernel in ((along, batch["along"], (1, 8)), (down, batch["down"], (8, 1))):
        gradient = gradient + F.avg_pool2d((mine - wanted), kernel, 1).abs().mean() * 2
    smooth = sum(part.abs().mean() for light in (light_first, light_second)
                 for part in gradients(light))  # fmt: skip
    return {"same": same, "relative": relative, "gradient": gradient, "smooth": smooth}


def train(
    groups: list[Group],
    *,
    steps: int,
    side: int = 128,
    batch_size: int = 6,
    seed: int = 0,
    report_every: int = 50,
) -> IlluminationNet:
    """Train the net on groups, drawn in turn at random, groups of several lights twice as often."""
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = IlluminationNet()
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=max(steps, 2), pct_start=0.1
    )
    chances = torch.tensor([2.0 if len(group.images) > 1 else 1.0 for group in groups])
    start = time.monotonic()
    for step in range(1, steps + 1):
        chosen = torch.multinomial(chances, batch_size, replacement=True, generator=generator)
        examples = [make_example(groups[index], side, generator) for index in chosen.tolist()]
        batch = {key: torch.stack([example[key] for example in examples]) for key in examples[0]}
        parts = losses(net, batch)
        total = sum(WEIGHTS[key] * part for key, part in parts.items())
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if report_every and (step % report_every == 0 or step == steps):
            shown = "  ".join(f"{key} {part.item():.4f}" for key, part in parts.items())
            print(f"step {step}/{steps}  {time.monotonic() - start:.0f} s  {shown}", flush=True)
    return net.eval()


def save_net(path: Path, net: IlluminationNet, metadata: dict[str, str]) -> None:
    """Write the weights as float16 with what a reader needs to rebuild and to trust them."""
    architecture = {"sigmas_px": net.sigmas_px, "widths": net.widths}
    state = {key: value.half().contiguous() for key, value in net.state_dict().items()}
    metadata = {"architecture": json.dumps(architecture), **metadata}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=Path, help="folder of view groups (two lights or more)")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="image folders")
    parser.add_argument(
        "--leave_out", nargs="*", default=[], help="skip groups with one of these in their name"
    )
    parser.add_argument("--steps", type=int, default=1500, help="optimiser steps")
    parser.add_argument("--crop", type=int, default=128, help="side of a crop, px")
    parser.add_argument("--batch", type=int, default=6, help="crops per step")
    parser.add_argument("--side", type=int, default=400, help="longer side of the images, px")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=SHIPPED_WEIGHTS, help="where weights go")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read the data, train, write the weights."""
    arguments = parse_arguments(argv)
    groups = []
    if arguments.groups:
        groups += [
            group
            for group in read_groups(arguments.groups, arguments.side)
            if not any(part in group.name for part in arguments.leave_out)
        ]
    singles = sample_photographs(arguments.side)
    singles += read_photographs(arguments.photographs, arguments.side)
    num_lights = sum(len(group.images) for group in groups)
    data = f"{len(groups)} view groups ({num_lights} images), {len(singles)} photographs"
    print(f"training on {data}", flush=True)
    if not groups + singles:
        raise UserError("nothing to train on: give --groups or --photographs")
    net = train(
        groups + singles,
        steps=arguments.steps,
        side=arguments.crop,
        batch_size=arguments.batch,
        seed=arguments.seed,
    )
    command = (
        f"python -m piad.train_reflectance --steps {arguments.steps} --crop {arguments.crop}"
        f" --batch {arguments.batch} --seed {arguments.seed}"
    )
    left_out = f"; left out: {' '.join(arguments.leave_out)}" if arguments.leave_out else ""
    save_net(arguments.out, net, {"data": data + left_out, "command": command, "version": "1"})
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
