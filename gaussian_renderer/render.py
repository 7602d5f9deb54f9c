"""render(gaussians, camera) -> image, alpha, depth: a set of Gaussians seen from a pose."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pose_rasterizer import rasterize
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import GaussianModel


@functools.lru_cache(maxsize=4096)
def calibration(intrinsics: Intrinsics, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The calibration matrix; not copied to the device anew for every image."""
    with torch.inference_mode(False):  # it may serve a rendering with gradients next
        return intrinsics.matrix(device, dtype)


def view_of(
    camera: Camera | Sequence[Camera], like: Tensor, viewmat: Tensor | None = None
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """world_to_camera, calibration matrix and image size (height, width), as the rasterizer wants.

    Of several cameras of one size [B, 4, 4] and [B, 3, 3]; on the device of `like`, in its type.

    Args:
        viewmat: takes the place of the cameras' own.
    """
    if isinstance(camera, Camera):
        own, matrix = camera.intrinsics, calibration(camera.intrinsics, like.device, like.dtype)
        poses = camera.world_to_camera
    else:
        own, kind = camera[0].intrinsics, torch.float64
        matrix = torch.stack([one.intrinsics.matrix(dtype=kind) for one in camera]).to(like)
        poses = torch.stack([one.world_to_camera for one in camera])
    return poses.to(like) if viewmat is None else viewmat, matrix, (own.height, own.width)


@dataclass(frozen=True, eq=False)
class Render:
    """What a camera sees, or several [B, ...].

    Attributes:
        image: [C, H, W], not clamped above 1; the background shows through where alpha < 1.
        alpha: coverage by the Gaussians, [1, H, W], 0..1.
        depth: expected z of the Gaussians along the camera's axis, world units, [1, H, W];
            0 where alpha is 0.
        radii: extent of each Gaussian on the image in pixels, [N] int32, 0 = not seen.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor
    radii: Tensor


def render(
    gaussians: GaussianModel,
    camera: Camera | Sequence[Camera],
    background: Tensor | None = None,
    *,
    viewmat: Tensor | None = None,
    means2d_offset: Tensor | None = None,
    size: tuple[int, int] | None = None,
    sh_degree: int | None = None,
    backend: str | None = None,
) -> Render:
    """Render `gaussians` from `camera`; differentiable in every tensor, `viewmat` included.

    Args:
        camera: one, or several of one image size, [B, ...] then.
        background: colour behind the Gaussians, [C]; the model's own by default.
        viewmat: world_to_camera [4, 4] (OpenCV axes) instead of the camera's pose.
        means2d_offset: added to the projected means, [N, 2], px; its gradient drives densification.
        size: (height, width) of the image; a single camera's pinhole is resampled to it.
        sh_degree: spherical-harmonics degrees used, all by default.
        backend: of pose_rasterizer; chosen by the device by default.
    """
    if size is not None and size != (camera.intrinsics.height, camera.intrinsics.width):
        camera = camera.resized(size[1], size[0])
    return render_activated(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
        gaussians.background if background is None else background,
        camera,
        viewmat=viewmat,
        means2d_offset=means2d_offset,
        sh_degree=sh_degree,
        backend=backend,
    )


def render_activated(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    background: Tensor,
    camera: Camera | Sequence[Camera],
    *,
    viewmat: Tensor | None = None,
    means2d_offset: Tensor | None = None,
    sh_degree: int | None = None,
    backend: str | None = None,
) -> Render:
    """`render` of a model's tensors with scales and opacities as the rasterizer takes them.

    Args:
        camera: one, or several of one image size, [B, ...] then.
    """
    viewmat, intrinsics, image_size = view_of(camera, means, viewmat)
    drawn = rasterize(
        means,
        quats,
        scales,
        opacities,
        sh=sh,
        colours=None,
        viewmat=viewmat,
        intrinsics=intrinsics,
        size=image_size,
        background=background,
        means2d_offset=means2d_offset,
        sh_degree=sh_degree,
        backend=backend,
    )
    return Render(drawn.image, drawn.alpha, drawn.depth, drawn.radii)


def render_values(
    gaussians: GaussianModel,
    camera: Camera | Sequence[Camera],
    values: Tensor,
    background: Tensor | None = None,
) -> Render:
    """Render values that belong to the Gaussians, whatever the direction, as if they were colours.

    Differentiable in `values`: the gradient of a weighted sum of the image's pixels is that sum
    weighted by what each Gaussian contributes to them.

    Args:
        camera: one, or several of one image size, [B, ...] then.
        values: [N, K], any K, any sign.
        background: value where nothing is, [K]; 0 by default.
    """
    means = gaussians.means
    viewmat, intrinsics, size = view_of(camera, means)
    drawn = rasterize(
        means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        colours=values,
        viewmat=viewmat,
        intrinsics=intrinsics,
        size=size,
        background=background,
    )
    return Render(drawn.image, drawn.alpha, drawn.depth, drawn.radii)
