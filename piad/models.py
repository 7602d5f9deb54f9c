"""The two Gaussian models of an object: fitted once, rendered together."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.densify import rotation_matrices
from gaussian_renderer.errors import UserError
from gaussian_renderer.fit import fit
from gaussian_renderer.fit_data import VERSION as FIT_VERSION
from gaussian_renderer.gaussians import GaussianModel, joined, same_geometry
from gaussian_renderer.render import Render, render, render_values
from piad.fingerprint import gallery_fingerprint

if TYPE_CHECKING:
    from piad.config import Config
    from piad.run_folder import RunFolder
    from piad.scenes import Scene

ORIGINAL = {"model_geometry": "separate"}
MODEL_FILE = "model.safetensors"
# Rendered at once on GPUs: a CUDA back end is compiled for each number of channels, and colour and
# reflectance need this one anyway. A CPU takes any number, all in one pass.
CHANNELS = 6
# Of `ModelPair.extremes`: directions, share left out, standard deviations that a Gaussian reaches.
SIDES, STRAY, LEAST_OPACITY, EXTENT = 200, 1e-3, 0.3, 2.0
_ANY_POSE = torch.eye(4, dtype=torch.float64)


@dataclass
class ModelsConfig:
    """How the colour and the reflectance model belong together."""

    model_geometry: str = field(
        default="joint",
        metadata={
            "help": "joint: one fit of six channels; shared: reflectance on the colour model's "
            "geometry; separate: two independent models (paper)",
            "choices": ("joint", "shared", "separate"),
        },
    )


@dataclass
class PairRendering:
    """Colour and reflectance of one view, or of several [B, ...], over black; C = 6, colour first.

    image: [6, H, W], premultiplied by alpha; alpha: [2, H, W], of colour and of reflectance;
    depth: of the colour model along the camera's axis, world units, [1, H, W].
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor | None = None

    def over(self, background: Tensor) -> Tensor:
        """Composite over a uniform background [6] (or [6, H, W]): [..., 6, H, W]."""
        shape = (6, 1, 1) if background.ndim == 1 else background.shape
        return self.image + (1 - self.channel_alpha) * background.reshape(shape)

    def cut(self, box: tuple) -> PairRendering:
        """What lies in a box (`piad.target.object_box`), not copied."""
        depth = None if self.depth is None else self.depth[box]
        return PairRendering(self.image[box], self.alpha[box], depth)

    @property
    def cover(self) -> Tensor:
        """Alpha of the colour model, [..., 1, H, W], in memory of its own.

        A slice of an expanded tensor has a stride of 0, and CUDA's poolings then read the first
        view's alpha for all of them.
        """
        return self.alpha[..., :1, :, :].clone(memory_format=torch.contiguous_format)

    @property
    def channel_alpha(self) -> Tensor:
        """Alpha of each of the six channels, [..., 6, H, W]; one for all isn't copied."""
        if self.alpha.stride(-3) == 0:
            return self.alpha[..., :1, :, :].expand(self.image.shape)
        return self.alpha.repeat_interleave(3, dim=-3, output_size=6)


class ModelPair:
    """Colour and reflectance model; one pass renders both when they share their geometry."""

    def __init__(
        self, colour: GaussianModel, reflectance: GaussianModel, gloss: Tensor | None = None
    ) -> None:
        """
        Args:
            gloss: how much each Gaussian's colour depended on the view in the gallery, standard
                deviation, 0..1, [N, 1]; None: not at all.
        """
        self.cuts: tuple[tuple[int, int], ...] = ()  # `piad.close_up.common_sizes`, px
        self.gloss = torch.zeros_like(colour.means[:, :1]) if gloss is None else gloss
        self.colour, self.reflectance = colour.detach(), reflectance.detach()
        self.joined = None
        if same_geometry(self.colour, self.reflectance):
            self.joined = joined(self.colour, self.reflectance)
        self.background = torch.cat([self.colour.background, self.reflectance.background])  # [6]

    @functools.cached_property
    def centre(self) -> Tensor:
        """Opacity-weighted centre of the object in the world, [3]."""
        weight = self.colour.opacities[:, None]
        return (self.colour.means * weight).sum(0) / weight.sum().clamp_min(1e-12)

    @functools.cached_property
    def host_centre(self) -> Tensor:
        """`centre` in float64 on the CPU, [3]."""
        return self.centre.double().cpu()

    @functools.cached_property
    def extremes(self) -> Tensor:
        """Points that the object reaches to all sides, float64 on the CPU, [P, 3].

        The farthest few Gaussians of each side are left out: a stray one doesn't count.
        """
        model = self.colour
        solid = model.opacities > LEAST_OPACITY
        chosen = solid if bool(solid.any()) else torch.ones_like(solid)
        means, scales = model.means[chosen], model.scales[chosen]
        axes = rotation_matrices(model.quats[chosen])
        stray = int(STRAY * len(means)) + 1
        sides = torch.randn(SIDES, 3, generator=torch.Generator().manual_seed(0))
        points = []
        for side in F.normalize(sides, dim=1).to(means):
            size = EXTENT * (scales * (axes.mT @ side)).norm(dim=1)
            farthest = (means @ side + size).topk(stray).indices[-1]
            points.append(means[farthest] + size[farthest] * side)
        return torch.stack(points).double().cpu()

    def render(self, viewmat: Tensor, intrinsics: Intrinsics) -> PairRendering:
        """Render both models at `viewmat` (world_to_camera, OpenCV), differentiably.

        Args:
            viewmat: [4, 4], or [B, 4, 4] for several views in one call.
        """
        # `viewmat` counts, not the pose; nothing waits for the device.
        return self._render(Camera(intrinsics, _ANY_POSE), viewmat)

    def render_views(self, cameras: Sequence[Camera]) -> PairRendering:
        """Render both models at several cameras of one image size, [B, ...]."""
        return self._render(cameras, None)

    def _render(self, camera: Camera | Sequence[Camera], viewmat: Tensor | None) -> PairRendering:
        if self.joined is not None:
            black = torch.zeros_like(self.background)
            view = render(self.joined, camera, black, viewmat=viewmat)
            alpha = view.alpha.expand(*view.alpha.shape[:-3], 2, -1, -1)
            return PairRendering(view.image, alpha, view.depth)
        black = torch.zeros_like(self.colour.background)
        views = [
            render(model, camera, black, viewmat=viewmat)
            for model in (self.colour, self.reflectance)
        ]
        return PairRendering(
            torch.cat([view.image for view in views], -3),
            torch.cat([view.alpha for view in views], -3),
            views[0].depth,
        )


def render_one(models: ModelPair, camera: Camera | Sequence[Camera], values: Tensor) -> Render:
    """`render_values` of one value of each Gaussian, [N, 1]; [..., 1, H, W] as the image.

    On GPUs in one of CHANNELS channels: no back end is compiled for one.
    """
    fill = CHANNELS - 1 if values.is_cuda else 0
    seen = render_values(models.colour, camera, F.pad(values, (0, fill)))
    return replace(seen, image=seen.image[..., :1, :, :])


class _Stacked:
    """Colour over reflectance of each gallery view, [6, H, W], loaded on access."""

    def __init__(self, scene: Scene, reflectance_scene: Scene) -> None:
        self.pairs = list(zip(scene.gallery, reflectance_scene.gallery, strict=True))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        colour, reflectance = self.pairs[index]
        return torch.cat([colour.image(), reflectance.image()])


class _Images:
    """The gallery views' images, [3, H, W], loaded on access."""

    def __init__(self, scene: Scene) -> None:
        self.views = scene.gallery

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Tensor:
        return self.views[index].image()


def fit_models(
    scene: Scene, reflectance_scene: Scene, cfg: Config, run: RunFolder, device: torch.device
) -> ModelPair:
    """Fit, or load when they are done, an object's two models; both end up as PLY too."""
    cameras = [view.camera for view in scene.gallery]
    kind = cfg.models.model_geometry
    shared = {"fit": asdict(cfg.fit), "model_geometry": kind, "seed": cfg.seed}
    shared["fit_version"] = FIT_VERSION
    shared["gallery"] = gallery_fingerprint(scene)
    depends = {
        "colour": shared,
        "reflectance": shared | {"reflectance_gallery": gallery_fingerprint(reflectance_scene)},
    }
    if kind == "joint":
        depends["colour"] = depends["reflectance"]
    stages = {
        name: run.stage(
            f"{name} model", run.gaussians(name), depends[name], (run.gaussians(name) / MODEL_FILE,)
        )
        for name in ("colour", "reflectance")
    }

    def fitted(name: str, images, **options) -> GaussianModel:
        return fit(
            cameras,
            images,
            cfg.fit,
            folder=run.gaussians(name),
            device=device,
            seed=cfg.seed,
            name=name,
            **options,
        )

    done = {name: stage.is_done() for name, stage in stages.items()}
    models: dict[str, GaussianModel] = {
        name: GaussianModel.load(run.gaussians(name) / MODEL_FILE).to(device)
        for name in stages
        if done[name]
    }
    if kind == "joint" and not all(done.values()):
        for stage in stages.values():
            stage.begin()
        six = fitted("colour", _Stacked(scene, reflectance_scene), initial=scene.points)
        models["colour"] = six.with_sh(six.sh[..., :3].contiguous(), six.background[:3])
        models["reflectance"] = six.with_sh(six.sh[..., 3:].contiguous(), six.background[3:])
        for name, stage in stages.items():
            _keep(models[name], run.gaussians(name), cfg.fit.iterations)
            stage.finish()
        return ModelPair(models["colour"], models["reflectance"])
    if not done["colour"]:
        stages["colour"].begin()
        models["colour"] = fitted("colour", _Images(scene), initial=scene.points)
        _keep(models["colour"], run.gaussians("colour"), cfg.fit.iterations)
        stages["colour"].finish()
    if not done["reflectance"]:
        stages["reflectance"].begin()
        frozen = kind == "shared"
        models["reflectance"] = fitted(
            "reflectance",
            _Images(reflectance_scene),
            initial=models["colour"] if frozen else scene.points,
            freeze_geometry=frozen,
        )
        _keep(models["reflectance"], run.gaussians("reflectance"), cfg.fit.iterations)
        stages["reflectance"].finish()
    return ModelPair(models["colour"], models["reflectance"])


def load_models(run: RunFolder, device: torch.device) -> ModelPair:
    """The models that pose_estimation.py left in the run."""
    pair = []
    for name in ("colour", "reflectance"):
        path = run.gaussians(name) / MODEL_FILE
        if not path.is_file():
            raise UserError(
                f"no {name} model at {path}; run pose_estimation.py --class_name {run.class_name}"
            )
        pair.append(GaussianModel.load(path).to(device))
    return ModelPair(*pair)


def models_fingerprint(run: RunFolder) -> str:
    """Digest of both models' files."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("colour", "reflectance"):
        digest.update((run.gaussians(name) / MODEL_FILE).read_bytes())
    return digest.hexdigest()


def _keep(model: GaussianModel, folder: Path, iterations: int) -> None:
    """Save for ourselves, and as a PLY that any splat viewer opens."""
    model.save_ply(folder / "point_cloud" / f"iteration_{iterations}" / "point_cloud.ply")
    model.save(folder / MODEL_FILE)
