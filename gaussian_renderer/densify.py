"""Adaptive density control: Gaussians are cloned, split, pruned, and faded for a new trial.

From the paper (Kerbl et al. 2023, section 5 and 6), with a budget of ours: when `max_gaussians`
is set, the number grows evenly to it and the Gaussians of largest view-space gradient go first,
so that a short training spends what it has where the error is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gaussian_renderer.backdrop import Silhouettes
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.optimiser import GaussianOptimiser

CLONE_BELOW = 0.01  # of the scene's extent: smaller Gaussians are cloned, larger ones split
SPLIT_SHRINK = 1.6  # 3DGS, section 5.2: phi
SPLIT_INTO = 2
LARGEST = 0.1  # of the scene's extent: larger Gaussians are pruned
RESET_OPACITY = 0.01
SOLID, FAINT = 0.5, 0.3  # opacities of a surface's Gaussians, and below which one may be a stray
SOLID_NEIGHBOURS = 4
STRAY = 1.8  # distance to the last of them, in medians of all Gaussians', from which it is one


class DensityControl:
    """Statistics of the view-space gradients and what follows from them."""

    def __init__(self, num_gaussians: int, device: torch.device | str) -> None:
        self._start_counting(num_gaussians, device)

    def _start_counting(self, num_gaussians: int, device: torch.device | str) -> None:
        self.gradient = torch.zeros(num_gaussians, device=device)
        self.count = torch.zeros(num_gaussians, device=device)

    def observe(self, offset_gradient: Tensor, radii: Tensor, size: tuple[int, int]) -> None:
        """Add one rendering's gradient of the 2D means [N, 2] (px) of the Gaussians seen.

        The paper's threshold is in normalised device coordinates, whose unit is half the image.
        """
        height, width = size
        seen = radii > 0
        across, down = offset_gradient.unbind(1)
        self.gradient += torch.hypot(across * (0.5 * width), down * (0.5 * height)) * seen
        self.count += seen

    def state(self) -> dict[str, Tensor]:
        return {"gradient": self.gradient.clone(), "count": self.count.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.gradient = state["gradient"].to(self.gradient.device)
        self.count = state["count"].to(self.count.device)

    def densify(
        self,
        optimiser: GaussianOptimiser,
        *,
        threshold: float,
        target: int | None,
        extent: float,
        prune_opacity: float,
        generator: torch.Generator,
        silhouettes: Silhouettes | None = None,
    ) -> None:
        """Clone and split where the mean gradient exceeds `threshold`, prune, start counting anew.

        Args:
            target: number of Gaussians not to exceed by growing; None for no limit.
            extent: the scene's size, world units.
        """
        mean = self.gradient / self.count.clamp_min(1)
        grow = mean > threshold
        if target is not None:
            room = max(0, target - optimiser.num_gaussians)
            if int(grow.sum()) > room:
                best = torch.where(grow, mean, torch.zeros_like(mean)).topk(room).indices
                grow = torch.zeros_like(grow)
                grow[best] = True
        rows = optimiser.rows()
        largest = rows["log_scales"].amax(1).exp()
        split = grow & (largest > CLONE_BELOW * extent)
        clone = grow & ~split
        parts = [{k: v[clone] for k, v in rows.items()}, _halves(rows, split, generator)]
        extra = {k: torch.cat([p[k] for p in parts]) for k in rows}
        optimiser.replace_rows(~split, extra)
        prune(optimiser, extent, prune_opacity, silhouettes)
        self._start_counting(optimiser.num_gaussians, self.gradient.device)


def _halves(rows: dict[str, Tensor], split: Tensor, generator: torch.Generator) -> dict:
    """Two smaller Gaussians for each one split, at positions drawn from it."""
    parents = {k: v[split].repeat(SPLIT_INTO, *(1,) * (v.ndim - 1)) for k, v in rows.items()}
    n = len(parents["means"])
    # drawn on the CPU: the same sequence whatever the device
    normal = torch.randn(n, 3, generator=generator).to(parents["means"])
    local = normal * parents["log_scales"].exp()
    offset = (rotation_matrices(parents["quats"]) @ local[..., None])[..., 0]
    parents["means"] = parents["means"] + offset
    parents["log_scales"] = parents["log_scales"] - math.log(SPLIT_SHRINK)
    return parents


def rotation_matrices(quats: Tensor) -> Tensor:
    """[N, 3, 3] of quaternions w x y z [N, 4], normalised here."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def prune(
    optimiser: GaussianOptimiser,
    extent: float,
    prune_opacity: float,
    silhouettes: Silhouettes | None = None,
) -> None:
    """Remove Gaussians nearly transparent, too large, or outside the hull; keep at least one."""
    rows = optimiser.rows()
    opacity = rows["logit_opacities"].sigmoid()
    keep = (opacity >= prune_opacity) & (rows["log_scales"].amax(1).exp() <= LARGEST * extent)
    if silhouettes is not None:
        keep &= silhouettes.hold(rows["means"])
    if len(keep) and not keep.any():
        keep[opacity.argmax()] = True
    if not keep.all():
        optimiser.replace_rows(keep)


def reset_opacity(optimiser: GaussianOptimiser) -> None:
    """Lower every opacity to at most 0.01: what is needed comes back, floaters do not."""
    ceiling = math.log(RESET_OPACITY / (1 - RESET_OPACITY))
    optimiser.overwrite("logit_opacities", optimiser.leaves["logit_opacities"].clamp_max(ceiling))


def without_strays(model: GaussianModel) -> GaussianModel:
    """The model less the faint Gaussians that stand apart from its surfaces (ours).

    Within the hull of the views fitted nothing forbids a faint Gaussian in front of a surface that
    all of them see it against; another view sees it before the backdrop.
    """
    solid = model.opacities > SOLID
    if int(solid.sum()) <= SOLID_NEIGHBOURS:
        return model
    from scipy.spatial import cKDTree  # takes a third of a second, in a fit alone

    tree = cKDTree(model.means[solid].cpu().numpy())
    apart = tree.query(model.means.cpu().numpy(), k=[SOLID_NEIGHBOURS])[0][:, 0]
    apart = torch.from_numpy(apart).to(model.device)
    return model.select(~((apart > STRAY * apart.median()) & (model.opacities < FAINT)))
