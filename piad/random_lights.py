"""Random light for photographs of random objects: lamps as discs, softboxes and windows.

Where a surface mirrors, a lamp is seen as what it is. A bright quadrangle with sharp edges is the
lamp's image then, and no paint or chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from piad.reflectance_data import log_uniform, uniform
from piad.reflectance_solids import Lamp, Light, View, random_light

FLOOR, METAL_FLOOR = 0.015, 0.1  # rad^2: keep a small lamp's image from burning out all else
SOFTBOXES, PANES = 0.6, 0.25  # shares: of lamps that are softboxes, of these that have panes
LONG = 3.3  # times longer than wide, at most
BAR = 0.12  # half a bar's width, share of half the side it divides
RIM = 0.02  # rad: softness of a lamp's rim
MAP_HEIGHT = 256
THROUGH_BARS = 0.25  # share of the light that is left there


@dataclass(frozen=True)
class Softbox(Lamp):
    """A lamp seen as a rectangle.

    length: its half length over its half width; roll: about the line of sight, rad; panes: whether
    a cross of bars divides it.
    """

    length: float
    roll: float
    panes: bool

    def inside(self, reflected: Tensor, softness: Tensor) -> Tensor:
        """Share of its light [N, 1] that comes from directions [N, 3].

        Args:
            softness: of its edges, rad, [N, 1].
        """
        forward = self.direction
        across = torch.eye(3)[forward.abs().argmin()]  # any that isn't along it
        right = F.normalize(torch.linalg.cross(forward, across), dim=0)
        up = torch.linalg.cross(forward, right)
        cosine, sine = math.cos(self.roll), math.sin(self.roll)
        axes = torch.stack([cosine * right + sine * up, cosine * up - sine * right], 1)
        away = torch.atan2(reflected @ axes, (reflected @ forward)[:, None]).abs()  # rad, [N, 2]
        half = self.width * torch.tensor([self.length**0.5, self.length**-0.5])
        gap = (away - half).amax(1, keepdim=True)
        share = torch.sigmoid(-gap / softness)
        if self.panes:
            bar = (BAR * half - away).amax(1, keepdim=True)
            share = share * (1 - (1 - THROUGH_BARS) * torch.sigmoid(bar / softness))
        return share


def seen_lamp(lamp: Lamp, towards: Tensor, softness: Tensor) -> Tensor:
    """Share of a lamp's light [N, 1] that comes from directions [N, 3]; softness: rad, [N, 1]."""
    if isinstance(lamp, Softbox):
        return lamp.inside(towards, softness)
    angle = torch.acos((towards @ lamp.direction).clamp(-1, 1))[:, None]
    return torch.sigmoid((lamp.width - angle) / softness)


def mirrored(lamp: Lamp, view: View) -> Tensor:
    """A lamp's image in a mirror, [N, 1]: bright, its rim as soft as the surface."""
    share = seen_lamp(lamp, view.reflected, RIM + 0.5 * view.roughness**1.5)
    area = lamp.width**2 + 0.5 * view.roughness**2
    return share / (FLOOR + (METAL_FLOOR - FLOOR) * view.metal + area)


def _shaped(lamp: Lamp, generator: Generator) -> Lamp:
    """The lamp, or a softbox of its size."""
    if torch.rand((), generator=generator) >= SOFTBOXES:
        return lamp
    length, roll = log_uniform(1, LONG, generator), float(uniform(0, math.pi, generator, 1))
    panes = bool(torch.rand((), generator=generator) < PANES)
    return Softbox(lamp.direction, lamp.width, lamp.colour, length, roll, panes)


def radiance_map(light: Light) -> Tensor:
    """The light as an environment map: radiance [MAP_HEIGHT, 2 MAP_HEIGHT, 3], linear RGB.

    Columns run over the azimuth from x through y, rows from the zenith to the nadir. A lamp sends
    as much as `radiance` of `piad.reflectance_solids` takes it to: its colour is what a white
    surface that faces it sends on.
    """
    rows, columns = torch.arange(MAP_HEIGHT) + 0.5, torch.arange(2 * MAP_HEIGHT) + 0.5
    elevation, azimuth = torch.meshgrid(
        (0.5 - rows / MAP_HEIGHT) * math.pi, columns / MAP_HEIGHT * math.pi, indexing="ij"
    )
    flat, height = elevation.cos(), elevation.sin()
    towards = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), height], 2).reshape(-1, 3)
    up = 0.5 + 0.5 * towards[:, 2:]
    total = light.ambience * (light.floor + (light.sky - light.floor) * up)
    softness = torch.full_like(up, RIM)
    for lamp in light.lamps:
        share = seen_lamp(lamp, towards, softness)
        area = (share * flat.reshape(-1, 1)).sum() * (math.pi / MAP_HEIGHT) ** 2  # sr
        total = total + share * lamp.colour * math.pi / area
    return total.reshape(MAP_HEIGHT, 2 * MAP_HEIGHT, 3)


def gallery_light(generator: Generator) -> Light:
    """Bright, even, about white light: much ambience, wide lamps."""
    light = random_light(generator, above=True, tint=0.2)
    sky = float(uniform(0.3, 0.6, generator, 1))
    lamps = tuple(
        _shaped(replace(lamp, width=max(lamp.width, 0.4)), generator) for lamp in light.lamps
    )
    floor = sky * float(uniform(0.4, 1.0, generator, 1))
    return replace(light, sky=sky, floor=floor, lamps=lamps)


def query_light(table: bool, generator: Generator) -> Light:
    """Any light; lamps stronger against the ambience, often narrower, than a gallery's."""
    light = random_light(generator, above=table, tint=0.5)
    strength = float(torch.exp(uniform(-0.6, 1.4, generator, 1)))
    narrow = float(uniform(0.4, 1.0, generator, 1))
    lamps = tuple(
        _shaped(
            replace(lamp, width=max(0.08, narrow * lamp.width), colour=strength * lamp.colour),
            generator,
        )
        for lamp in light.lamps
    )
    dim = float(uniform(0.3, 1.0, generator, 1))
    return replace(light, lamps=lamps, sky=dim * light.sky, floor=dim * light.floor)
