"""GaussianModel: the raw parameters of a set of Gaussians, their activations, and its files.

Colour has any number of channels C: 3 for colour or reflectance, 6 for both on shared geometry.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path

MAX_SH_DEGREE = 3
SH_C0 = 0.28209479177387814  # value of the constant spherical harmonic, 1 / (2 sqrt(pi))
FORMAT = "piad.gaussians/1"
GEOMETRY = ("means", "quats", "log_scales", "logit_opacities")


def num_sh_coefficients(degree: int) -> int:
    """Coefficients of a spherical-harmonics expansion up to `degree`: 1, 4, 9, 16."""
    return (degree + 1) ** 2


@dataclass
class GaussianModel:
    """N Gaussians as the optimiser holds them (raw) with view-dependent colour of C channels.

    Attributes:
        means: centres in the world, [N, 3].
        quats: rotations, w x y z, not necessarily of unit length, [N, 4].
        log_scales: logarithm of the standard deviations in world units, [N, 3].
        logit_opacities: opacity before the sigmoid, [N].
        sh: spherical-harmonics coefficients, constant term first, [N, K, C], K = 1, 4, 9 or 16;
            colour = max(0, 0.5 + SH(direction from camera to mean)).
        background: colour behind the Gaussians, [C].
    """

    means: Tensor
    quats: Tensor
    log_scales: Tensor
    logit_opacities: Tensor
    sh: Tensor
    background: Tensor

    def __post_init__(self) -> None:
        n = self.means.shape[0]
        wanted = {"means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "logit_opacities": (n,)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                found = tuple(getattr(self, name).shape)
                raise ValueError(f"{name} must be {list(shape)}, not {list(found)}")
        if self.sh.ndim != 3 or self.sh.shape[0] != n or self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(f"sh must be [{n}, 1 | 4 | 9 | 16, C], not {list(self.sh.shape)}")
        if self.background.shape != (self.sh.shape[2],):
            found = list(self.background.shape)
            raise ValueError(f"background must be [{self.sh.shape[2]}], not {found}")

    @property
    def scales(self) -> Tensor:
        """Standard deviations along the Gaussian's axes, world units, [N, 3]."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """[N], 0..1."""
        return self.logit_opacities.sigmoid()

    @property
    def num_gaussians(self) -> int:
        return self.means.shape[0]

    @property
    def num_channels(self) -> int:
        return self.sh.shape[2]

    @property
    def sh_degree(self) -> int:
        return math.isqrt(self.sh.shape[1]) - 1

    @property
    def device(self) -> torch.device:
        return self.means.device

    def tensors(self) -> dict[str, Tensor]:
        """The six tensors by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> GaussianModel:
        """The same model on another device or in another floating type."""
        return GaussianModel(
            **{k: v.to(device=device, dtype=dtype) for k, v in self.tensors().items()}
        )

    def detach(self) -> GaussianModel:
        """The same model (shared storage) outside any graph."""
        return GaussianModel(**{k: v.detach() for k, v in self.tensors().items()})

    def with_sh(self, sh: Tensor, background: Tensor) -> GaussianModel:
        """The same geometry with other colours [N, K, C] and background [C]."""
        return replace(self, sh=sh, background=background)

    def select(self, index: Tensor) -> GaussianModel:
        """The Gaussians chosen by a boolean mask [N] or by indices."""
        chosen = {k: v[index] for k, v in self.tensors().items() if k != "background"}
        return GaussianModel(**chosen, background=self.background)

    def channels(self, first: int, last: int) -> GaussianModel:
        """The model of colour channels first..last - 1, on the same geometry."""
        return self.with_sh(self.sh[..., first:last].contiguous(), self.background[first:last])

    def save(self, path: str | os.PathLike, metadata: dict[str, str] | None = None) -> None:
        """Write a safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        content = {k: v.detach().cpu().contiguous() for k, v in self.tensors().items()}
        with atomic_path(path) as temporary:
            save_file(content, temporary, metadata={"format": FORMAT, **(metadata or {})})

    def save_ply(self, path: str | os.PathLike) -> None:
        """Write the point_cloud.ply of 3DGS, which splat viewers open. Needs 3 channels."""
        from gaussian_renderer.ply import write_ply

        write_ply(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike, device: torch.device | str = "cpu") -> GaussianModel:
        """Read a .safetensors file of ours or a 3DGS .ply.

        A PLY knows its background only when we wrote it (a comment); else it is black.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(
                f"a Gaussian model is a file, but {path} does not exist; "
                "fit one with pose_estimation.py first"
            )
        if path.suffix == ".ply":
            from gaussian_renderer.ply import read_ply

            return read_ply(path).to(device)
        if path.suffix == ".safetensors":
            return _load_safetensors(path).to(device)
        raise UserError(
            f"a Gaussian model ends in .ply or .safetensors, not {path.suffix!r}: {path}; "
            "give one of these"
        )


def _load_safetensors(path: Path) -> GaussianModel:
    from safetensors import SafetensorError, safe_open

    remedy = "delete it and fit the model again"
    names = {f.name for f in fields(GaussianModel)}
    try:
        with safe_open(path, "pt") as file:
            found_format = (file.metadata() or {}).get("format")
            missing = names - set(file.keys())
            if missing:
                raise UserError(
                    f"a model file holds {FORMAT}, found format {found_format} without "
                    f"{', '.join(sorted(missing))} in {path}; {remedy}"
                )
            content = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise UserError(f"a safetensors file must be whole, {path}: {error}; {remedy}") from error
    try:
        return GaussianModel(**content)
    except ValueError as error:
        raise UserError(f"a model's tensors must agree, {path}: {error}; {remedy}") from error


def same_geometry(a: GaussianModel, b: GaussianModel) -> bool:
    """Whether both models have exactly the same means, rotations, scales and opacities."""
    return all(torch.equal(getattr(a, k), getattr(b, k)) for k in GEOMETRY)


def joined(*models: GaussianModel) -> GaussianModel:
    """One model with the channels of all, in order, on the geometry that they share exactly.

    Lower SH degrees are padded with zeros. Raises ValueError when the geometry differs.
    """
    first = models[0]
    if not all(same_geometry(first, other) for other in models[1:]):
        counts = ", ".join(str(m.num_gaussians) for m in models)
        raise ValueError(
            f"models are joined on shared geometry only; these ({counts} Gaussians) differ: "
            "render them one after the other"
        )
    degree = max(m.sh_degree for m in models)
    sh = torch.cat([with_sh_degree(m.sh, degree) for m in models], -1)
    return first.with_sh(sh, torch.cat([m.background for m in models]))


def with_sh_degree(sh: Tensor, degree: int) -> Tensor:
    """Coefficients [N, K, C] cut or padded with zeros to `degree`."""
    count = num_sh_coefficients(degree)
    if sh.shape[1] >= count:
        return sh[:, :count]
    shape = (sh.shape[0], count - sh.shape[1], sh.shape[2])
    return torch.cat([sh, sh.new_zeros(shape)], 1)
