"""The normal equations of a model's pose and light (pose_rasterizer's, for a GaussianModel)."""

from __future__ import annotations

from pose_rasterizer import NormalEquations, pose_normal_equations
from torch import Tensor

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.render import calibration


def pose_system(
    gaussians: GaussianModel,
    world_to_camera: Tensor,
    intrinsics: Intrinsics,
    *,
    direction_term: bool = True,
    **residuals: Tensor | None,
) -> NormalEquations:
    """Cost, J^T W J and J^T W r of renderings minus targets over pose and light.

    Args:
        gaussians: one model.
        world_to_camera: poses [B, 4, 4], OpenCV axes.
        direction_term: whether colours depend on the camera's position (exact).
        residuals: target, weight [B, C, H, W], gain, offset, backdrop [B, C], robust_scale and
            the silhouette's target and weight, as in `pose_rasterizer.pose_normal_equations`.
    """
    device = gaussians.means.device
    return pose_normal_equations(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        sh=gaussians.sh,
        viewmat=world_to_camera.to(device, gaussians.means.dtype),
        intrinsics=calibration(intrinsics, device, gaussians.means.dtype),
        size=(intrinsics.height, intrinsics.width),
        direction_term=direction_term,
        **residuals,
    )
