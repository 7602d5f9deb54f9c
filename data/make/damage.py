"""Damage that any object can suffer, done to its mesh: no part of it is known.

A dent or bump moves all that lies about a line through the surface, so that thin sheets stay
sheets; a stain or scratch changes what faces the same side.
"""

from dataclasses import replace

import numpy as np

from .lights import smoothstep
from .marks import described, face_axes
from .mesh import Mesh, unit
from .noise import fractal_noise_3d

KINDS = "dented", "bumped", "stained", "scratched"
SMALLEST_MASK = 0.0004  # 64 px of 400 x 400
REACH = 0.24  # how far below its middle a dent takes everything with it; half as far it ends
FACING = 0.25  # cosine between the normals of what is stained and its middle's
COLOURS = np.array(  # of stains: rust, oil, ink, chalk, mud, paint
    [
        (0.30, 0.11, 0.03),
        (0.05, 0.04, 0.03),
        (0.03, 0.05, 0.22),
        (0.75, 0.74, 0.70),
        (0.20, 0.14, 0.08),
        (0.55, 0.06, 0.04),
    ]
)


def random_damage(kind: str, mesh: Mesh, rng: np.random.Generator) -> dict:
    """Parameters of damage of `kind` (of KINDS) at a random vertex of a flawless mesh."""
    at = rng.integers(len(mesh.vertices))
    if kind in ("dented", "bumped"):
        radius = rng.uniform(0.05, 0.17)
        sizes = {"radius": radius, "depth": max(0.022, radius * rng.uniform(0.22, 0.5))}
        if kind == "bumped":
            sizes["depth"] *= -1
    elif kind == "stained":
        sizes = {"radius": rng.uniform(0.05, 0.17), "cover": rng.uniform(0.35, 0.95)}
        sizes |= {"colour": rng.integers(-2, len(COLOURS)), "roughness": rng.uniform(0.2, 0.8)}
    elif kind == "scratched":
        sizes = {"length": rng.uniform(0.08, 0.28), "width": rng.uniform(0.008, 0.015)}
        sizes |= {"angle": rng.uniform(0, np.pi), "light": rng.random() < 0.6}
        sizes["cover"] = rng.uniform(0.55, 1)
    else:
        raise ValueError(f"objects do not suffer {kind!r}; known: {', '.join(KINDS)}")
    seed = int(rng.integers(1 << 30))
    return described(kind, mesh.vertices[at], mesh.normals[at], seed, sizes)


def damaged(mesh: Mesh, defect: dict) -> Mesh:
    """A copy of a mesh with colours per vertex, damaged as `random_damage` says."""
    away = mesh.vertices - np.array(defect["centre"], np.float32)
    normal = np.array(defect["normal"], np.float32)
    if defect["kind"] in ("dented", "bumped"):
        return _pressed(mesh, away, normal, defect)
    facing = mesh.normals @ normal > FACING
    if defect["kind"] == "stained":
        ragged = 0.25 * fractal_noise_3d(mesh.vertices, 12, int(defect["seed"]), 3)
        off = np.linalg.norm(away, axis=1) / defect["radius"] + ragged
        share = defect["cover"] * smoothstep((1 - off) / 0.25) * facing
        of = int(defect["colour"])
        colour = COLOURS[of] if of >= 0 else mesh.colour * (0.35 if of == -1 else 1.8)
        return _mixed(mesh, share, colour.clip(0, 0.9), defect["roughness"])
    along, across = (away @ axis for axis in face_axes(normal, defect["angle"]))
    width = defect["width"] * np.clip(1 - (along / defect["length"]) ** 2, 0, 1)
    wave = 0.012 * np.sin(11 * along + defect["seed"] % 7)
    near = np.linalg.norm(away, axis=1) < 1.2 * defect["length"]
    share = defect["cover"] * (np.abs(across + wave) < width) * near * facing
    lighter = 0.35 + 0.65 * mesh.colour
    return _mixed(mesh, share, lighter if defect["light"] else 0.3 * mesh.colour, 0.5)


def _pressed(mesh: Mesh, away, normal, defect: dict) -> Mesh:
    """With what lies within a radius of a line pressed in along it."""
    deep = away @ normal
    aside = away - deep[:, None] * normal
    inside = (1 - (aside**2).sum(1) / defect["radius"] ** 2).clip(0)
    depth = defect["depth"] * smoothstep((deep + REACH) / (REACH / 2))
    slope = (depth * inside * -4 / defect["radius"] ** 2)[:, None] * aside
    vertices = mesh.vertices - (depth * inside**2)[:, None] * normal
    normals = unit(mesh.normals + slope * (mesh.normals @ normal)[:, None])
    return replace(mesh, vertices=vertices.astype(np.float32), normals=normals.astype(np.float32))


def _mixed(mesh: Mesh, share, colour, roughness: float) -> Mesh:
    """With a share [N] of another colour, which is no metal, and of another roughness."""
    mixed = mesh.colour + share[:, None] * (colour - mesh.colour)
    rough = mesh.roughness + share * (roughness - mesh.roughness)
    return replace(mesh).painted(np.c_[mixed, mesh.metallic * (1 - share), rough])
