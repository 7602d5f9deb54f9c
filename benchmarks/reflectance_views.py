"""Whether reflectance agrees between views: how well Gaussians fitted to some views show others.

    python -m benchmarks.reflectance_views --class_name Spring

One small Gaussian model is fitted to the photographs; its colours alone are then fitted to each
kind of reflectance of the same views. Every sixth view is held out. The residual there, over the
object and relative to its own contrast, tells what a view-dependent reflectance costs.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.fit import fit
from gaussian_renderer.fit_config import FitConfig
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.render import render
from piad.reflectance import ReflectanceConfig, ReflectanceNet
from piad.scenes import DataConfig, Scene, load_scene

HOLD_OUT = 6
SOLID_ALPHA = 0.9
FIT = FitConfig(
    iterations=300,
    frozen_iterations=200,
    max_gaussians=4000,
    initial_points=4000,
    densify_from=100,
    densify_every=100,
    densify_until=200,
    sh_every=80,
    coarse_factor=2,
    coarse_share=0.5,
    prune_opacity=0.02,
    alpha_weight=0.3,
    alpha_inside_from=0.7,
)


def held_out_residual(model: GaussianModel, scene: Scene, images: list[Tensor]) -> dict:
    """Residual over contrast and PSNR of the held-out views, means."""
    relative, psnr = [], []
    with torch.no_grad():
        for view, image in list(zip(scene.gallery, images, strict=True))[::HOLD_OUT]:
            shown = render(model, view.camera)
            inside = shown.alpha[0] > SOLID_ALPHA
            error = (shown.image - image).square()
            contrast = image[:, inside].std(dim=1).mean()
            relative.append((error[:, inside].mean().sqrt() / contrast).item())
            psnr.append(-10 * error.mean().log10().item())
    return {"residual": sum(relative) / len(relative), "psnr": sum(psnr) / len(psnr)}


def main(argv: list[str] | None = None) -> None:
    """Print a line per kind of reflectance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", default="data/MIP")
    parser.add_argument("--class_name", default="Spring")
    parser.add_argument("--resolution", type=int, default=120, help="of the fit, px")
    arguments = parser.parse_args(argv)
    small, full = (
        load_scene(DataConfig(data_dir=arguments.data_dir, resolution=side), arguments.class_name)
        for side in (arguments.resolution, 400)
    )
    train = [index for index in range(len(small.gallery)) if index % HOLD_OUT]
    model = None
    for kind in ("none", "retinex", "ours"):
        net = ReflectanceNet.load(ReflectanceConfig(reflectance_net=kind))
        images = []
        for view, target in zip(full.gallery, small.gallery, strict=True):
            size = (target.camera.intrinsics.height, target.camera.intrinsics.width)
            images.append(F.interpolate(net(view.image()[None]), size, mode="area")[0])
        model = fit(
            [small.gallery[index].camera for index in train],
            [images[index] for index in train],
            FIT,
            initial=model,
            freeze_geometry=model is not None,
            name=net.name,
            progress=False,
        )
        row = held_out_residual(model, small, images)
        print(f"{net.name}: residual / contrast {row['residual']:.3f}, PSNR {row['psnr']:.2f} dB")


if __name__ == "__main__":
    main()
