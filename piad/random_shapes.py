"""Shapes of random objects: details and defects, and solids that repeat or stand on others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from piad.reflectance_data import uniform
from piad.reflectance_solids import Solid, random_rotation, sines

SOCKET_STEPS = 6
NEAR = 0.05  # from the ball around a shape; nearer points get the shape's own distance


@dataclass(frozen=True)
class Blob:
    """An ellipsoid with a wavy outline: centre [3], axes [3, 3] (rows), radii [3], waves [6, 4]."""

    centre: Tensor
    axes: Tensor
    radii: Tensor
    waves: Tensor
    waviness: float

    @cached_property
    def ball(self) -> tuple[Tensor, Tensor]:
        """Centre [3] and radius of a ball that holds it."""
        return self.centre, 2.0 * self.radii.max()

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (about) of points [N, 3]."""
        local = (points - self.centre) @ self.axes.T / self.radii
        wave = self.waviness * sines(1.5 * local, self.waves)
        return (local.norm(dim=1) - 1 + wave) * self.radii.min()


@dataclass(frozen=True)
class Chain:
    """A tube of one radius along the points [M, 3]."""

    points: Tensor
    radius: float

    @cached_property
    def ball(self) -> tuple[Tensor, Tensor]:
        """Centre [3] and radius of a ball that holds it."""
        centre = 0.5 * (self.points.amin(0) + self.points.amax(0))
        return centre, (self.points - centre).norm(dim=1).max() + self.radius

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance of points [N, 3]."""
        start, along = self.points[:-1], self.points[1:] - self.points[:-1]
        offset = points[:, None] - start
        share = (offset * along).sum(2) / along.square().sum(1).clamp_min(1e-12)
        return (offset - share.clamp(0, 1)[..., None] * along).norm(dim=2).amin(1) - self.radius


@dataclass
class Part(Solid):
    """A small solid on others: a component, a rivet. It stands along its third axis."""

    scale: float = 1.0

    def local(self, points: Tensor) -> Tensor:
        """World points [N, 3] in the primitive's frame, where it has its full size."""
        return super().local(points) / self.scale

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (a bound of it) of points [N, 3]."""
        return super().distance(points) * self.scale


@dataclass(frozen=True)
class Socket:
    """Where a small part sat: its shape, drawn inwards along its third axis.

    depth: how far, at most about seven times half the part's thickness, which leaves no gaps.
    """

    part: Part
    depth: float

    @cached_property
    def shifts(self) -> Tensor:
        """To where the part's shape is cut out, [SOCKET_STEPS, 3]."""
        return torch.linspace(0, -self.depth, SOCKET_STEPS)[:, None] * self.part.axes[2]

    @cached_property
    def ball(self) -> tuple[Tensor, Tensor]:
        """Centre [3] and radius of a ball that holds it."""
        reach = self.part.scale * (0.2 + 1.5 * self.part.size.sum())  # of any kind of solid
        return self.part.centre + 0.5 * self.shifts[-1], reach + 0.5 * self.depth

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (a bound of it) of points [N, 3]."""
        return torch.stack([self.part.distance(points - by) for by in self.shifts]).amin(0)


Shape = Blob | Chain | Socket  # of details and defects


def nearby_distances(shapes: Sequence[Shape], points: Tensor) -> Tensor:
    """Distances [N, S] of shapes; far from one, that of a ball around it, which is less."""
    balls = [shape.ball for shape in shapes]
    centres, reach = (torch.stack(parts) for parts in zip(*balls, strict=True))
    found = (points[:, None] - centres).norm(dim=2) - reach
    near = found < NEAR
    for index, some in enumerate(near.any(0).tolist()):
        if some:
            close = near[:, index].nonzero()[:, 0]
            found[close, index] = shapes[index].distance(points[close])
    return found


@dataclass
class Stack(Solid):
    """A solid repeated along its own axis: coils, fins, teeth."""

    pitch: float = 0.2
    count: int = 3  # to each side

    def local(self, points: Tensor) -> Tensor:
        """World points [N, 3] in the frame of the nearest repetition."""
        p = super().local(points)
        step = (p[:, 2] / self.pitch).round().clamp(-self.count, self.count)
        return torch.stack([p[:, 0], p[:, 1], p[:, 2] - self.pitch * step], 1)


@dataclass
class Coil(Solid):
    """A wire wound about the solid's own axis: springs, threads."""

    radius: float = 0.3  # of the wire's middle line about the axis
    wire: float = 0.05
    pitch: float = 0.2
    count: int = 3  # turns to each side of the middle one

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (about) of points [N, 3]."""
        p = self.local(points)
        turn = p[:, 2] / self.pitch - torch.atan2(p[:, 1], p[:, 0]) / (2 * math.pi)
        rise = self.pitch * (turn - turn.round().clamp(-self.count, self.count))
        slope = self.pitch / (2 * math.pi * self.radius)
        aside = rise / math.hypot(1, slope)
        return torch.hypot(p[:, :2].norm(dim=1) - self.radius, aside) - self.wire


def random_blob(centre: Tensor, size: float, generator: Generator) -> Blob:
    waves = torch.cat(
        [2.5 * torch.randn(6, 3, generator=generator), uniform(0, 6.3, generator, 6, 1)], 1
    )
    radii = size * torch.exp(uniform(-0.6, 0.3, generator, 3))
    waviness = float(uniform(0.0, 0.4, generator, 1))
    return Blob(centre, random_rotation(generator), radii, waves, waviness)


def random_stack(solid: Solid, generator: Generator) -> Stack:
    """Rings or rods side by side instead of one solid."""
    own = vars(solid) | {"kind": "ring" if torch.rand((), generator=generator) < 0.6 else "rod"}
    across, thick = uniform(0.15, 0.45, generator, 1), uniform(0.1, 0.3, generator, 1)
    own["size"] = torch.cat([across, thick, thick])
    if own["kind"] == "rod":
        own["size"] = torch.cat([across * 1.5, thick * 0.2, thick])
    own["centre"] = 0.3 * solid.centre
    pitch = float(thick) * float(uniform(0.75, 1.3, generator, 1))
    return Stack(**own, pitch=pitch, count=int(torch.randint(2, 5, (), generator=generator)))


def random_coil(solid: Solid, generator: Generator) -> Coil:
    """A wound wire instead of one solid, its turns close or apart."""
    pitch = float(uniform(0.09, 0.3, generator, 1))
    shape = {
        "radius": float(uniform(0.2, 0.5, generator, 1)),
        "wire": pitch * float(uniform(0.2, 0.46, generator, 1)),
        "pitch": pitch,
        "count": int(torch.randint(1, max(2, min(5, round(0.6 / pitch))), (), generator=generator)),
    }
    return Coil(**vars(solid) | {"centre": 0.3 * solid.centre}, **shape)
