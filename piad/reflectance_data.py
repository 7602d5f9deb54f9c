"""Training images for the reflectance net: view groups, synthetic light, painted albedo.

A view group is one view under several lights: a folder with the images of equal size (PNG or JPEG),
and optionally `albedo.png` (linear; black behind the object) and `mask.png` (the object, white;
without it the pixels whose albedo is not black). `index.json` beside the groups may name those to
hold out, as `data/make/make_light_pairs.py` writes it. A lone photograph is a group of one.
All random draws come from the generator passed in.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from gaussian_renderer.errors import UserError
from piad.reflectance_net import linear_to_srgb, srgb_to_linear

SUFFIXES = (".png", ".jpg", ".jpeg")
MASK_NAME, ALBEDO_NAME = "mask.png", "albedo.png"
# scikit-image's own photographs (others of its samples are microscopy or drawings).
SAMPLE_PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "brick")


@dataclass
class Group:
    """One view under K lights.

    images: [K, 3, H, W] sRGB, uint8; mask: [H, W] bool, the object; albedo: [3, H, W] linear,
    uint8, of computer graphics (a metal's is its tint), where it is known.
    """

    name: str
    images: Tensor
    mask: Tensor
    albedo: Tensor | None = None


def read_rgb(path: Path, side: int) -> Tensor:
    """An image [3, H, W] as uint8, its longer side reduced to at most `side` px."""
    with Image.open(path) as file:
        image = file.convert("RGB")
        scale = side / max(image.size)
        if side and scale < 1:
            size = tuple(max(1, round(length * scale)) for length in image.size)
            image = image.resize(size, Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def light_images(folder: Path) -> list[Path]:
    """The images of a view group, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and path.name not in (MASK_NAME, ALBEDO_NAME)
        and not path.name.startswith(".")
    )


def read_group(folder: Path, side: int = 400, name: str = "") -> Group:
    """The view group in one folder."""
    images = [read_rgb(path, side) for path in light_images(folder)]
    if len({image.shape for image in images}) > 1:
        raise UserError(f"images of one view must have one size, but those in {folder} differ")
    mask, albedo = torch.ones(images[0].shape[1:], dtype=torch.bool), None
    if (folder / ALBEDO_NAME).is_file():
        albedo = read_rgb(folder / ALBEDO_NAME, side)
        mask = albedo.amax(0) > 0
    if (folder / MASK_NAME).is_file():
        mask = read_rgb(folder / MASK_NAME, side)[0] > 127
    return Group(name or folder.name, torch.stack(images), mask, albedo)


def held_out_groups(root: Path) -> set[str]:
    """Names of the groups that index.json marks as held out; none without that file."""
    try:
        index = json.loads((root / "index.json").read_text())
        return {group["name"] for group in index["groups"] if group["held_out"]}
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {root / 'index.json'}: {error!r}; make it again") from None


def read_groups(root: Path, side: int = 400, held_out: bool = False) -> list[Group]:
    """All view groups below `root` (folders with two images or more), by name.

    Args:
        held_out: those that index.json holds out from training instead of the others.
    """
    if not root.is_dir():
        raise UserError(f"no folder of view groups at {root}; make one, or leave --groups out")
    left_out = held_out_groups(root)
    groups = []
    for folder in sorted({path.parent for path in root.rglob("*") if path.suffix in SUFFIXES}):
        name = folder.relative_to(root).as_posix()
        if (name in left_out) == held_out and len(light_images(folder)) >= 2:
            groups.append(read_group(folder, side, name))
    if not groups and not held_out:
        raise UserError(f"no view group (a folder with two images or more) below {root}")
    return groups


def read_photographs(folders: list[Path], side: int = 400) -> list[Group]:
    """Every image below the folders as a group of one."""
    paths = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
    )
    images = [(path.name, read_rgb(path, side)) for path in paths]
    return [
        Group(name, image[None], torch.ones(image.shape[1:], dtype=torch.bool))
        for name, image in images
    ]


def sample_photographs(side: int = 400) -> list[Group]:
    """Photographs that come with scikit-image."""
    import skimage

    root = Path(skimage.data_dir)
    paths = [path for path in sorted(root.iterdir()) if path.stem in SAMPLE_PHOTOGRAPHS]
    images = [(path.stem, read_rgb(path, side)) for path in paths]
    return [
        Group(name, image[None], torch.ones(image.shape[1:], dtype=torch.bool))
        for name, image in images
    ]


def uniform(low: float, high: float, generator: Generator, *shape: int) -> Tensor:
    """Uniform random numbers of a shape."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def log_uniform(low: float, high: float, generator: Generator) -> float:
    """A positive number whose logarithm is drawn evenly."""
    return float(torch.exp(uniform(math.log(low), math.log(high), generator, 1)))


def smooth_field(height: int, width: int, channels: int, generator: Generator) -> Tensor:
    """A random smooth field [channels, H, W], about standard normal: a coarse grid, enlarged."""
    cells = int(torch.randint(2, 5, (), generator=generator))
    grid = torch.randn(1, channels, cells, cells, generator=generator)
    return F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)[0]


def relight(image: Tensor, generator: Generator, strength: float = 1.0) -> Tensor:
    """A photograph under another, synthetic light.

    Args:
        image: [3, H, W] sRGB in 0..1.
        strength: 0 leaves the image, 1 is the usual range: exposure +-1 stop, colour cast, a
            smooth field of +-0.7 stop with a colour of its own, at times a highlight.
    Returns:
        [3, H, W] sRGB in 0..1, clipped as a camera does.
    """
    _, height, width = image.shape
    linear = srgb_to_linear(image)
    exposure = uniform(-0.7, 0.5, generator, 1, 1, 1)
    cast = 0.18 * torch.randn(3, 1, 1, generator=generator)
    field = 0.45 * smooth_field(height, width, 1, generator)
    tint = 0.08 * smooth_field(height, width, 3, generator)
    linear = linear * torch.exp(strength * (exposure + cast + field + tint))
    if torch.rand((), generator=generator) < 0.3 * strength:
        linear = linear + strength * highlight(height, width, generator)
    gamma = torch.exp(0.12 * strength * torch.randn((), generator=generator))
    return linear_to_srgb(linear.clamp(0, 1) ** gamma)


def highlight(height: int, width: int, generator: Generator) -> Tensor:
    """One soft elliptic highlight [1, H, W] of linear light."""
    rows = torch.linspace(-1, 1, height)[:, None]
    columns = torch.linspace(-1, 1, width)[None]
    y, x = uniform(-1, 1, generator, 2)
    angle = uniform(0, np.pi, generator, 1)
    along = (rows - y) * torch.sin(angle) + (columns - x) * torch.cos(angle)
    across = (rows - y) * torch.cos(angle) - (columns - x) * torch.sin(angle)
    length, breadth = uniform(0.1, 0.6, generator, 1), uniform(0.04, 0.2, generator, 1)
    level = uniform(0.05, 0.4, generator, 1)
    return (level * torch.exp(-((along / length) ** 2) - (across / breadth) ** 2))[None]


def paint(image: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Paint a sharp-edged patch of another albedo: a stain, or a long thin one: a scratch.

    Args:
        image: [3, H, W] sRGB in 0..1.
    Returns:
        The painted image and the change of log albedo [3, H, W], 0 outside the patch.
    """
    _, height, width = image.shape
    side = min(height, width)
    rows = torch.arange(height)[:, None] - uniform(0.1, 0.9, generator, 1) * height
    columns = torch.arange(width)[None] - uniform(0.1, 0.9, generator, 1) * width
    angle = uniform(0, np.pi, generator, 1)
    along = rows * torch.sin(angle) + columns * torch.cos(angle)
    across = rows * torch.cos(angle) - columns * torch.sin(angle)
    length = uniform(0.04, 0.2, generator, 1) * side
    breadth = (length * uniform(0.08, 1.0, generator, 1)).clamp(min=1.0)
    # A wavy outline, so that ellipses are not what is learned.
    wave = 0.3 * smooth_field(height, width, 1, generator)[0]
    inside = (along / length) ** 2 + (across / breadth) ** 2 + wave < 1
    sign = 1.0 if torch.rand((), generator=generator) < 0.3 else -1.0
    change = sign * uniform(0.15, 1.2, generator, 1) + 0.3 * torch.randn(3, generator=generator)
    linear = srgb_to_linear(image)
    painted = (linear * torch.exp(change)[:, None, None]).clamp(0, 1)
    painted = torch.where(inside, painted, linear)
    applied = torch.log((painted + 0.01) / (linear + 0.01))
    return linear_to_srgb(painted), applied


def random_crop(
    group: Group, side: int, generator: Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A square crop at a random place, scale, turn and mirroring.

    Args:
        side: of the result, px; the crop is enlarged by up to 1.7 and never reduced.
    Returns:
        Images [K, 3, side, side] in 0..1, mask [side, side], albedo [3, side, side] in 0..1.
    """
    height, width = group.mask.shape
    cut = round(side / float(uniform(1.0, 1.7, generator, 1)))
    cut = min(cut, height, width)
    best = None
    for _ in range(4):  # crops of bare background teach little
        top = int(torch.randint(0, height - cut + 1, (), generator=generator))
        left = int(torch.randint(0, width - cut + 1, (), generator=generator))
        mask = group.mask[top : top + cut, left : left + cut]
        if best is None or mask.sum() > best[2].sum():
            best = (top, left, mask)
        if mask.float().mean() > 0.3:
            break
    top, left, mask = best
    planes = [group.images.flatten(0, 1), mask[None].to(torch.uint8) * 255]
    planes[0] = planes[0][:, top : top + cut, left : left + cut]
    if group.albedo is not None:
        planes.append(group.albedo[:, top : top + cut, left : left + cut])
    stack = torch.cat(planes).float()[None] / 255
    stack = torch.rot90(stack, int(torch.randint(0, 4, (), generator=generator)), (-2, -1))
    if torch.rand((), generator=generator) < 0.5:
        stack = stack.flip(-1)
    stack = F.interpolate(stack, (side, side), mode="bilinear", align_corners=False)[0]
    count = planes[0].shape[0]
    images = stack[:count].unflatten(0, (-1, 3))
    albedo = stack[count + 1 :] if group.albedo is not None else None
    return images, stack[count] > 0.5, albedo
