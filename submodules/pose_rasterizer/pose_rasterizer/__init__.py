"""Differentiable rasterizer of 3D Gaussians with exact gradients to the camera pose.

from pose_rasterizer import rasterize
out = rasterize(means, quats, scales, opacities, sh=sh, viewmat=world_to_camera,
                intrinsics=K, size=(height, width))
out.image, out.alpha, out.depth, out.radii
"""

from pose_rasterizer.errors import BuildError
from pose_rasterizer.normal_equations import NormalEquations, pose_normal_equations
from pose_rasterizer.ops import Rasterization, rasterize

__all__ = [
    "BuildError",
    "NormalEquations",
    "Rasterization",
    "pose_normal_equations",
    "rasterize",
]
