"""The PLY of 3D Gaussian Splatting: raw values, property order as splat viewers expect.

x y z nx ny nz f_dc_0..2 f_rest_0..44 opacity scale_0..2 rot_0..3. The higher SH coefficients are
channel-major: 15 of red, 15 of green, 15 of blue. Two comments of ours carry what the format
cannot: `background r g b` and `sh_degree d`. plyfile is GPL-3.0, so it is imported only inside
the two functions that need it; runs themselves are kept in safetensors.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from gaussian_renderer.gaussians import MAX_SH_DEGREE, GaussianModel, num_sh_coefficients

NUM_REST = 3 * (num_sh_coefficients(MAX_SH_DEGREE) - 1)  # 45
LEADING = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2")
TRAILING = ("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
REQUIRED = tuple(n for n in LEADING if not n.startswith("n")) + TRAILING


def write_ply(model: GaussianModel, path: str | os.PathLike) -> None:
    """Write `model` (3 channels) as binary little-endian PLY, degree 3 with zeros as needed."""
    from plyfile import PlyData, PlyElement

    if model.num_channels != 3:
        raise ValueError(
            f"a PLY holds 3 colour channels, not {model.num_channels}; "
            "write model.channels(0, 3) and model.channels(3, 6) to two files"
        )
    names = LEADING + tuple(f"f_rest_{i}" for i in range(NUM_REST)) + TRAILING
    values = {k: v.detach().cpu().float().numpy() for k, v in model.tensors().items()}
    n, num_higher = model.num_gaussians, values["sh"].shape[1] - 1
    rest = np.zeros((n, 3, NUM_REST // 3), np.float32)
    rest[:, :, :num_higher] = values["sh"][:, 1:].transpose(0, 2, 1)  # [N, K-1, 3] -> [N, 3, K-1]
    columns = np.concatenate(
        [
            values["means"],
            np.zeros((n, 3), np.float32),
            values["sh"][:, 0],
            rest.reshape(n, NUM_REST),
            values["logit_opacities"][:, None],
            values["log_scales"],
            values["quats"],
        ],
        1,
    )
    vertices = np.empty(n, dtype=[(name, "<f4") for name in names])
    for i, name in enumerate(names):
        vertices[name] = columns[:, i]
    background = " ".join(repr(float(v)) for v in values["background"])
    comments = [f"background {background}", f"sh_degree {model.sh_degree}"]
    ply = PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<", comments=comments)
    with atomic_path(path) as temporary:
        ply.write(str(temporary))


def read_ply(path: str | os.PathLike) -> GaussianModel:
    """Read a 3DGS PLY of SH degree 0 to 3, ours or another program's."""
    from plyfile import PlyData, PlyParseError

    path = Path(path)
    remedy = "give the point_cloud.ply of a 3D Gaussian model, or fit the model again"
    try:
        ply = PlyData.read(str(path))
    except (PlyParseError, UnicodeDecodeError, ValueError, EOFError) as error:
        raise UserError(f"a PLY file must be whole and valid, {path}: {error}; {remedy}") from error
    if "vertex" not in ply:
        found = ", ".join(element.name for element in ply) or "no element"
        raise UserError(f"a PLY model has an element 'vertex', found {found} in {path}; {remedy}")
    vertices = ply["vertex"].data
    names = vertices.dtype.names or ()
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise UserError(
            f"a 3DGS PLY has the property {missing[0]}, found only {', '.join(names)} "
            f"in {path}; {remedy}"
        )
    rest_names = sorted(
        (name for name in names if name.startswith("f_rest_")), key=lambda s: int(s[7:])
    )
    num_coefficients = len(rest_names) // 3 + 1
    if len(rest_names) % 3 or num_coefficients not in (1, 4, 9, 16):
        raise UserError(
            f"a 3DGS PLY has 0, 9, 24 or 45 f_rest properties, found {len(rest_names)} "
            f"in {path}; {remedy}"
        )

    def columns(wanted: list[str] | tuple[str, ...]) -> torch.Tensor:
        stacked = np.stack([np.asarray(vertices[name], np.float32) for name in wanted], 1)
        return torch.from_numpy(stacked)  # [N, len(wanted)]

    constant = columns([f"f_dc_{i}" for i in range(3)])[:, None]  # [N, 1, 3]
    sh = constant
    if rest_names:
        rest = columns(rest_names).reshape(len(vertices), 3, num_coefficients - 1)
        sh = torch.cat([constant, rest.transpose(1, 2)], 1)
    background, degree = _read_comments(ply.comments, math.isqrt(num_coefficients) - 1)
    model = GaussianModel(
        means=columns(["x", "y", "z"]),
        quats=columns([f"rot_{i}" for i in range(4)]),
        log_scales=columns([f"scale_{i}" for i in range(3)]),
        logit_opacities=columns(["opacity"])[:, 0],
        sh=sh[:, : num_sh_coefficients(degree)].contiguous(),
        background=background,
    )
    for name, tensor in model.tensors().items():
        if not tensor.isfinite().all():
            raise UserError(
                f"a model's values must be finite, found NaN in {name} of {path}; {remedy}"
            )
    return model


def _read_comments(comments: list[str], degree_in_file: int) -> tuple[torch.Tensor, int]:
    """Background [3] (black when not told) and the SH degree (the file's when not told)."""
    background, degree = torch.zeros(3), degree_in_file
    for comment in comments:
        words = comment.split()
        try:
            if words[:1] == ["background"] and len(words) == 4:
                background = torch.tensor([float(w) for w in words[1:]])
            elif words[:1] == ["sh_degree"] and len(words) == 2:
                degree = min(max(int(words[1]), 0), degree_in_file)
        except ValueError:  # another program's comment that happens to start alike
            continue
    return background, degree
