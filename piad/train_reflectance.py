"""Train the default reflectance net on view groups, photographs and synthetic light.

    python -m piad.reflectance_solids data/solids
    python -m piad.train_reflectance --groups data/solids --photographs data/MIP/Spring/train

A view group is a folder with one view under several lights: `piad.reflectance_solids` shades simple
ones, `data.make.make_light_pairs` renders better ones, and a camera on a tripod takes real ones.
scikit-image's photographs under synthetic light always take part. The same seed, data and number
of threads give the same weights. Equations: docs/method.md, reflectance.
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
from piad.reflectance_measures import mean_measures
from piad.reflectance_net import IlluminationNet, srgb_to_linear

MATTE_FLOOR = 0.01  # keeps log albedo finite in the dark, linear units
LEARNING_RATE = 2e-3
# Objects count more than the plain background, which fits by itself.
BACKGROUND_WEIGHT = 0.3
# Weights of the loss: chosen by benchmarks/reflectance.py on held-out groups.
WEIGHTS = {"same": 1.0, "gradient": 1.0, "smooth": 0.05}


def log_reflectance(net: IlluminationNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """log(R / (1 - R)) = log I - log L, and log L; both [B, 3, H, W]."""
    floored, log_light = net.decompose(images)
    return torch.log(floored) - log_light, log_light


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours along rows and columns of [..., H, W]."""
    return image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]


def median(stack: Tensor) -> Tensor:
    """Median over the first dimension; of an even number the mean of the middle two."""
    ordered = stack.sort(dim=0).values
    count = len(stack)
    return 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])


def median_gradients(images: Tensor, albedo: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Median over K lights of the gradients of log images [K, 3, H, W] sRGB.

    Of images of one scene under many lights, the reflectance whose gradients are the median of
    theirs is the most likely one (Weiss 2001, intrinsic images from image sequences). A known
    albedo [3, H, W] (linear) votes as one more light.
    """
    linear = srgb_to_linear(images)
    if albedo is not None:
        linear = torch.cat([linear, albedo[None]])
    return tuple(median(part) for part in gradients(torch.log(linear + MATTE_FLOOR)))


def make_example(group: Group, side: int, generator: Generator) -> dict[str, Tensor]:
    """One training example: two lights of a crop, the second with a painted patch."""
    images, mask, albedo = random_crop(group, side, generator)
    num_lights = images.shape[0]
    first, second = torch.randperm(num_lights, generator=generator)[[0, -1]].tolist()
    # Rendered lights are light enough at times; photographs know no other light than ours.
    real = num_lights > 1 and torch.rand((), generator=generator) < 0.5
    strength = 0.0 if real else (0.6 if num_lights > 1 else 1.0)
    painted, change = paint(images[second], generator)
    if torch.rand((), generator=generator) < 0.4:
        painted, change = images[second], torch.zeros_like(change)
    along, down = median_gradients(images, albedo)
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
    gradient: R's gradients follow the median gradients over the lights, at three scales.
    smooth: the illumination has small gradients.
    """
    weight = batch["weight"]
    first, light_first = log_reflectance(net, batch["first"])
    second, light_second = log_reflectance(net, batch["second"])
    difference = (second - first - batch["change"]).abs()
    same = weighted_mean(difference, weight)
    along, down = gradients(first)
    gradient = (along - batch["along"]).abs().mean() + (down - batch["down"]).abs().mean()
    # Sums of gradients along 8 and 24 px are the changes of level that eyes and features see.
    for reach, factor in ((8, 2.0), (24, 4.0)):
        over = F.avg_pool2d(along - batch["along"], (1, reach), 1).abs().mean()
        gradient = gradient + factor * over
        over = F.avg_pool2d(down - batch["down"], (reach, 1), 1).abs().mean()
        gradient = gradient + factor * over
    smooth = sum(part.abs().mean() for light in (light_first, light_second)
                 for part in gradients(light))  # fmt: skip
    return {"same": same, "gradient": gradient, "smooth": smooth}


def train(
    groups: list[Group],
    *,
    steps: int,
    side: int = 128,
    batch_size: int = 8,
    seed: int = 0,
    report_every: int = 50,
    device: torch.device | str = "cpu",
) -> IlluminationNet:
    """Train the net on groups drawn at random, those of several lights twice as often."""
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = IlluminationNet().to(device)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=max(steps, 2), pct_start=0.1
    )
    chances = torch.tensor([2.0 if len(group.images) > 1 else 1.0 for group in groups])
    start = time.monotonic()
    for step in range(1, steps + 1):
        chosen = torch.multinomial(chances, batch_size, replacement=True, generator=generator)
        examples = [make_example(groups[index], side, generator) for index in chosen.tolist()]
        batch = {
            key: torch.stack([example[key] for example in examples]).to(device)
            for key in examples[0]
        }
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
    return net.eval().cpu()


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
    parser.add_argument("--groups", type=Path, nargs="*", default=[], help="folders of view groups")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="image folders")
    parser.add_argument(
        "--leave_out",
        nargs="*",
        default=[],
        help="hold out groups with one of these in their name, too",
    )
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps")
    parser.add_argument("--crop", type=int, default=128, help="side of a crop, px")
    parser.add_argument("--batch", type=int, default=8, help="crops per step")
    parser.add_argument("--side", type=int, default=400, help="longer side of the images, px")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=SHIPPED_WEIGHTS, help="where weights go")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read the data, train, write the weights."""
    arguments = parse_arguments(argv)
    groups, held_out = [], []
    for folder in arguments.groups:
        for group in read_groups(folder, arguments.side):
            skip = any(part in group.name for part in arguments.leave_out)
            (held_out if skip else groups).append(group)
        held_out += read_groups(folder, arguments.side, held_out=True)
    photographs = sample_photographs(arguments.side)
    photographs += read_photographs(arguments.photographs, arguments.side)
    if not groups + photographs:
        raise UserError("nothing to train on: give --groups or --photographs")
    num_lights = sum(len(group.images) for group in groups)
    data = f"{len(groups)} view groups ({num_lights} images), {len(photographs)} photographs"
    print(f"training on {data}", flush=True)
    net = train(
        groups + photographs,
        steps=arguments.steps,
        side=arguments.crop,
        batch_size=arguments.batch,
        seed=arguments.seed,
        device=arguments.device,
    )
    command = (
        f"python -m piad.train_reflectance --groups {' '.join(map(str, arguments.groups))}"
        f" --photographs {' '.join(map(str, arguments.photographs))} --steps {arguments.steps}"
        f" --crop {arguments.crop} --batch {arguments.batch} --seed {arguments.seed}"
        f" --device {arguments.device}"
    )
    figures = {}
    if held_out:
        with torch.no_grad():
            figures = {
                "photographs": mean_measures(lambda images: images, held_out),
                "reflectance": mean_measures(net, held_out),
            }
        print(f"{len(held_out)} held-out groups: {json.dumps(figures)}")
    metadata = {"data": data, "command": command, "figures": json.dumps(figures), "version": "1"}
    save_net(arguments.out, net, metadata)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
