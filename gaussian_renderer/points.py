"""A coloured point cloud: what a fit may start from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in the scene's world frame.

    Attributes:
        xyz: positions, [N, 3], float32.
        rgb: sRGB colours, [N, 3], float32 in 0..1.
    """

    xyz: Tensor
    rgb: Tensor

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3 or self.rgb.shape != self.xyz.shape:
            raise ValueError(
                "a point cloud needs xyz [N, 3] and rgb [N, 3], "
                f"not {tuple(self.xyz.shape)} and {tuple(self.rgb.shape)}"
            )

    def __len__(self) -> int:
        return self.xyz.shape[0]
