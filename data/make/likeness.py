"""Likenesses of an object: stretched, twisted, in other colours, of other materials."""

from dataclasses import dataclass, replace

import numpy as np

from .mesh import Mesh, unit

GAMMA = 2.2  # colours are changed about as they are seen
SHRUNK, TWIST = 0.28, 0.30  # largest log of a stretch; rad a world unit
REPAINTED, REVERSED, COATED = 0.6, 0.35, 0.2  # shares
NO_METAL, EXCHANGED = 0.25, 0.15  # shares: metal becomes paint; metal and all else change places


@dataclass(frozen=True)
class Likeness:
    """What is done to an object's mesh and material, broken or not, always alike.

    A surface that a defect leaves alone stays the same, as the mask's two renderings need it.
    """

    stretch: tuple[float, float, float]  # along x, y, z, at most 1
    twist: float  # about z, rad a world unit
    channels: tuple[int, int, int]  # of the colour, in their new order
    reversed: bool  # what was light is dark
    gamma: float
    saturation: float
    tint: tuple[float, float, float]
    metal: str  # "kept", "paint" or "exchanged"
    roughness: float  # its new exponent
    specular: float
    clearcoat: float

    def mesh(self, mesh: Mesh) -> Mesh:
        """A mesh with colour, metallic and roughness per vertex, changed."""
        vertices, normals = self.placed(mesh.vertices, mesh.normals)
        metallic = {"kept": mesh.metallic, "paint": 0 * mesh.metallic}
        metallic = metallic.get(self.metal, 1 - mesh.metallic)
        look = np.c_[self.colour(mesh.colour), metallic, mesh.roughness**self.roughness]
        return replace(mesh, vertices=vertices, normals=normals).painted(look)

    def placed(self, vertices, normals):
        """Vertices [N, 3] and their unit normals [N, 3] after the stretch, then the twist."""
        x, y, z = (vertices * self.stretch).T
        u, v, w = (normals / self.stretch).T
        cos, sin = np.cos(self.twist * z), np.sin(self.twist * z)
        w = w - self.twist * (x * v - y * u)
        moved = np.stack([cos * x - sin * y, sin * x + cos * y, z], 1)
        turned = np.stack([cos * u - sin * v, sin * u + cos * v, w], 1)
        return moved.astype(np.float32), unit(turned).astype(np.float32)

    def colour(self, linear: np.ndarray) -> np.ndarray:
        """Linear base colours [N, 3] in 0..1, repainted."""
        seen = linear[:, list(self.channels)] ** (1 / GAMMA)
        grey = seen.mean(1, keepdims=True)
        chroma = self.saturation * (seen - grey)
        if self.reversed:
            grey = 1 - grey
        seen = (grey.clip(0, 1) ** self.gamma + chroma) * self.tint
        return seen.clip(0, 1) ** GAMMA

    def material(self, options: dict) -> dict:
        """The options of render.vertex_material, changed."""
        return options | {"specular": self.specular, "clearcoat": self.clearcoat}


def random_likeness(rng: np.random.Generator) -> Likeness:
    repainted, metal = rng.random() < REPAINTED, rng.random()
    return Likeness(
        stretch=tuple(np.exp(rng.uniform(-SHRUNK, 0, 3))),
        twist=rng.uniform(-TWIST, TWIST),
        channels=tuple(rng.permutation(3).tolist()) if repainted else (0, 1, 2),
        reversed=bool(rng.random() < REVERSED),
        gamma=np.exp(rng.normal(0, 0.25)),
        saturation=rng.uniform(0.2, 1.4),
        tint=tuple(np.exp(rng.normal(0, 0.1, 3))),
        metal="paint" if metal < NO_METAL else "exchanged" if metal > 1 - EXCHANGED else "kept",
        roughness=np.exp(rng.normal(0, 0.4)),
        specular=rng.uniform(0.25, 0.75),
        clearcoat=rng.uniform(0.4, 1) if rng.random() < COATED else 0.0,
    )
