"""Reflectance images: which net makes them, and the mirrored folder they are kept in.

PIAD fits a second Gaussian model to images freed from their light (Retinex: I = R * L) and refines
and compares on both. `ReflectanceNet.load` finds the weights, `to_reflectance` converts a scene.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_image, write_json
from piad.reflectance_net import DecompositionNet, IlluminationNet, Photograph, Retinex
from piad.stage import Stage

if TYPE_CHECKING:
    from piad.scenes import Query, Scene, View

NETS = ("auto", "ours", "original", "retinex", "none")
PADDINGS = ("replicate", "original")
MODEL_FOLDER = Path(__file__).resolve().parents[1] / "retrieval" / "model"
SHIPPED_WEIGHTS = MODEL_FOLDER / "reflectance.safetensors"
ORIGINAL_WEIGHTS = MODEL_FOLDER / "init_low.pth"
# Part of every fingerprint: raise it when the same weights give other images than before.
VERSION = 1
INPUTS = "inputs.json"  # digests of the photographs that the images in the folder were made from

# The original's choices (`--preset original`). "auto" takes init_low.pth when it is there.
ORIGINAL: dict[str, object] = {"reflectance_net": "auto", "reflectance_padding": "original"}


@dataclass
class ReflectanceConfig:
    """How photographs become reflectance images."""

    reflectance_net: str = field(
        default="auto",
        metadata={
            "help": "auto (init_low.pth if there, else ours), ours, original, retinex (a formula),"
            " none (the photograph itself)",
            "choices": NETS,
        },
    )
    reflectance_weights: str = field(
        default="",
        metadata={"help": "weights file: .safetensors of ours or an init_low.pth; empty: search"},
    )
    reflectance_padding: str = field(
        default="replicate",
        metadata={
            "help": "border of the original's net: replicate, or original (6 px overwritten)",
            "choices": PADDINGS,
        },
    )
    reflectance_batch: int = field(default=4, metadata={"help": "images per pass of the net"})


class ReflectanceNet:
    """A net ready to use: sRGB images [B, 3, H, W] -> reflectance [B, 3, H, W], both in 0..1.

    name: what made the images, for the terminal and results.json.
    fingerprint: changes whenever the images it makes change.
    batch: images per pass that `to_reflectance` takes.
    """

    def __init__(self, module: nn.Module, name: str, fingerprint: str, batch: int = 4) -> None:
        self.module = module.eval().requires_grad_(False)
        self.name = name
        self.fingerprint = fingerprint
        self.batch = batch

    @classmethod
    def load(cls, cfg: ReflectanceConfig, device: torch.device | str = "cpu") -> ReflectanceNet:
        """Find and load the weights: the config's path, init_low.pth in its place, ours."""
        check_choice("reflectance_net", cfg.reflectance_net, NETS)
        check_choice("reflectance_padding", cfg.reflectance_padding, PADDINGS)
        if cfg.reflectance_batch < 1:
            raise UserError(f"reflectance_batch must be at least 1, not {cfg.reflectance_batch}")
        kind = cfg.reflectance_net
        path = Path(cfg.reflectance_weights).expanduser() if cfg.reflectance_weights else None
        if kind == "none":
            return cls(Photograph(), "photograph", "photograph", cfg.reflectance_batch)
        if kind == "retinex":
            module = Retinex()
            name = "retinex formula"
            print_of = f"{VERSION} {name} {module.sigmas_px}"
            return cls(module.to(device), name, print_of, cfg.reflectance_batch)
        if path is None:
            use_original = kind == "original" or (kind == "auto" and ORIGINAL_WEIGHTS.is_file())
            path = ORIGINAL_WEIGHTS if use_original else SHIPPED_WEIGHTS
        if not path.is_file():
            raise UserError(
                f"no reflectance weights at {path}: put the file there, or choose"
                " reflectance_net = ours"
            )
        if path.suffix == ".safetensors":
            if kind == "original":
                raise UserError(f"reflectance_net = original needs an init_low.pth, not {path}")
            module, name = load_ours(path), f"ours ({path.name})"
            how = ""
        else:
            if kind == "ours":
                raise UserError(f"reflectance_net = ours needs a .safetensors file, not {path}")
            module = load_original(path, cfg.reflectance_padding)
            name, how = f"original ({path.name})", cfg.reflectance_padding
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        print_of = f"{VERSION} {digest} {how}".strip()
        return cls(module.to(device), name, print_of, cfg.reflectance_batch)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Reflectance of sRGB images [B, 3, H, W] in 0..1: same shape, range and device."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be [B, 3, H, W], not {tuple(images.shape)}")
        return self.module(images)

    def to(self, device: torch.device | str) -> ReflectanceNet:
        """Move the weights."""
        self.module.to(device)
        return self


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise UserError unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{key} must be one of {', '.join(choices)}, not '{value}'")


def load_ours(path: Path) -> IlluminationNet:
    """Our net from a .safetensors file whose metadata holds its shape (`architecture`)."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}
        net = IlluminationNet(**json.loads(metadata["architecture"]))
        net.load_state_dict(state)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"reflectance weights must be written by train_reflectance, but {path} does not fit:"
            f" {one_line(error)}; leave reflectance_weights empty for the shipped ones"
        ) from None
    return net


def load_original(path: Path, padding: str) -> DecompositionNet:
    """The paper's initial decomposition net from `init_low.pth`."""
    net = DecompositionNet(padding)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(checkpoint["state_dict"]["model_R"])
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        raise UserError(
            f"an init_low.pth must hold state_dict/model_R with decom.0..6, but {path} does not:"
            f" {one_line(error)}; fetch it again or choose reflectance_net = ours"
        ) from None
    return net


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its kind when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def to_reflectance(
    scene: Scene,
    net: ReflectanceNet,
    folder: str | os.PathLike,
    device: torch.device | str = "cpu",
    progress: Callable[[Iterable], Iterable] = iter,
) -> Scene:
    """Write the reflectance of every photograph of a scene; return the scene that reads them.

    Args:
        scene: gallery and queries; images are read at work resolution.
        folder: the object's own folder (`reflection/<dataset>/N`); it mirrors the scene's, as PNG.
        progress: wraps the iteration over the batches still to do (e.g. a progress bar).
    Returns:
        The same scene (ids, cameras, masks, labels) with `path` of every photograph replaced.

    Images appear whole (written beside, then renamed) and the marker is written last. A stopped run
    goes on with the images that are missing or whose photograph changed; another net redoes all.
    """
    folder = Path(folder)
    jobs = {item.id: mirrored_path(item, scene.root, folder) for item in photographs(scene)}
    inputs = {item.id: input_digest(item) for item in photographs(scene)}
    depends = {"net": net.name, "fingerprint": net.fingerprint}
    stage = Stage("reflectance", folder, depends)

    def still_to_do() -> list[View | Query]:
        known = read_json(folder / INPUTS)
        return [
            item
            for item in photographs(scene)
            if known.get(item.id) != inputs[item.id] or not jobs[item.id].is_file()
        ]

    if not stage.is_done() or still_to_do():
        stage.begin()
        todo = still_to_do()
        for item in todo:  # the digests change before the images do: none of the old may stay
            jobs[item.id].unlink(missing_ok=True)
        write_json(folder / INPUTS, {**read_json(folder / INPUTS), **inputs})
        net.to(device)
        for batch in progress(list(batches(todo, net.batch))):
            images = torch.stack([item.image() for item in batch]).to(device)
            for item, reflectance in zip(batch, net(images), strict=True):
                write_image(jobs[item.id], reflectance)
        stage.finish(images=len(jobs))
    return replace(
        scene,
        gallery=[replace(view, path=jobs[view.id]) for view in scene.gallery],
        queries=[replace(query, path=jobs[query.id]) for query in scene.queries],
    )


def photographs(scene: Scene) -> Iterator[View | Query]:
    """Every photograph of a scene, gallery first."""
    yield from scene.gallery
    yield from scene.queries


def work_size(item: View | Query) -> tuple[int, int]:
    """(height, width) in pixels that `item.image()` has."""
    intrinsics = item.camera.intrinsics if hasattr(item, "camera") else item.intrinsics
    return intrinsics.height, intrinsics.width


def mirrored_path(item: View | Query, root: Path, folder: Path) -> Path:
    """Where a photograph's reflectance lies: as under `root`, below `folder`, as PNG."""
    path = Path(item.path)
    if path.is_relative_to(root) and not getattr(item, "alone", False):
        return folder / path.relative_to(root).with_suffix(".png")
    return folder / f"{item.id}.png"


def input_digest(item: View | Query) -> str:
    """Digest of a photograph: its file, and the size and background it is read with."""
    digest = hashlib.blake2b(
        f"{work_size(item)} {item.white_background} {item.apply_exif}".encode(), digest_size=16
    )
    try:
        digest.update(Path(item.path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {item.path} ({error.strerror}); put it back") from error
    return digest.hexdigest()


def read_json(path: Path) -> dict:
    """A JSON object; empty when the file is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def kept_json(path: Path, depends: dict, make: Callable[[], dict]) -> dict:
    """A JSON object that `make` gives, kept in `path` until what it depends on changes."""
    kept = read_json(path)
    if kept.get("depends") != depends:
        kept = {"depends": depends, **make()}
        write_json(path, kept)
    return kept


def batches(items: list, size: int) -> Iterator[list]:
    """Split into runs of at most `size` items of one image size, keeping the order."""
    by_size: dict[tuple[int, int], list] = {}
    for item in items:
        by_size.setdefault(work_size(item), []).append(item)
    for group in by_size.values():
        remaining = iter(group)
        while batch := list(islice(remaining, size)):
            yield batch
