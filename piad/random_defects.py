"""Random defects of random objects: what is added, cut, painted, bent, turned or lost."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gaussian_renderer.se3 import hat
from piad.random_objects import Object, surface_path
from piad.random_shapes import Chain, random_blob
from piad.reflectance_data import log_uniform, uniform

# Bent twice: what moved shows at its edges only, and the net learns what lies between them.
KINDS = ("bump", "chip", "missing", "crack", "burr", "stain", "stain", "scratch", "bent", "bent")
LINES = "crack", "scratch"
PART_KINDS = "lost", "turned"  # of small parts, where there are some


def random_defect(
    flawless: Object, kind: str, place: Tensor, normal: Tensor, generator: Generator
) -> Object:
    """The object with a defect at a place [3] of its surface with a normal [3]."""
    unit = flawless.camera_distance / 3
    size = unit * log_uniform(0.05, 0.2, generator)
    length = unit * float(uniform(0.06, 0.3, generator, 1))
    outward = torch.linspace(0, 1, 5)[:, None] * normal * length

    if kind == "bump":
        return flawless.with_added(random_blob(place, size * 0.7, generator))
    if kind in ("chip", "missing"):
        size = size if kind == "chip" else unit * float(uniform(0.15, 0.35, generator, 1))
        broken = flawless.with_cut(random_blob(place + 0.3 * size * normal, size, generator))
        if torch.rand((), generator=generator) < 0.5:  # what lies below has a colour of its own
            return broken.with_paint(random_blob(place, 1.5 * size, generator), generator)
        return broken
    if kind == "crack":
        path = surface_path(flawless, place, normal, generator)
        radius = unit * log_uniform(0.003, 0.018, generator)
        draw = float(torch.rand((), generator=generator))
        broken = flawless if draw < 0.25 else flawless.with_cut(Chain(path, radius))
        if draw > 0.5:
            return broken
        return broken.with_dark(Chain(path, 1.2 * radius), generator)
    if kind == "burr":
        sway = 0.05 * torch.randn(5, 3, generator=generator) * torch.linspace(0, 1, 5)[:, None]
        radius = unit * float(uniform(0.012, 0.035, generator, 1))
        return flawless.with_added(Chain(place + outward + sway, radius))
    if kind == "stain":
        blob = random_blob(place, size * log_uniform(1, 1.7, generator), generator)
        fade = 0.0
        if torch.rand((), generator=generator) < 0.5:
            fade = float(uniform(0.2, 1.0, generator, 1) * blob.radii.min())
        dark = torch.rand((), generator=generator) < 0.3
        return (flawless.with_dark if dark else flawless.with_paint)(blob, generator, fade)
    if kind == "scratch":
        radius = unit * log_uniform(0.004, 0.016, generator)
        path = Chain(surface_path(flawless, place, normal, generator), radius)
        return flawless.with_paint(path, generator)
    if kind in PART_KINDS:
        return _with_part_changed(flawless, kind, place, generator)
    if flawless.own_solids > 1 and torch.rand((), generator=generator) < 0.4:
        return _with_solid_moved(flawless, place, generator)
    width = unit * log_uniform(0.1, 0.45, generator)
    shift = 0.5 * width * F.normalize(torch.randn(3, generator=generator), dim=0)
    return flawless.changed(warp=(place, width, shift * float(uniform(0.2, 1.0, generator, 1))))


def _with_solid_moved(flawless: Object, place: Tensor, generator: Generator) -> Object:
    """The solid at a place turned and shifted."""
    owner = int(flawless.parts(place[None])[:, 0].argmin())
    axis = F.normalize(torch.randn(3, generator=generator), dim=0)
    angle = float(uniform(0.05, 0.25, generator, 1))
    shift = 0.04 * torch.randn(3, generator=generator)
    return _moved(flawless, owner, angle * axis, shift)


def _with_part_changed(flawless: Object, kind: str, place: Tensor, generator: Generator) -> Object:
    """The small part at a place lost; or turned, most often about where it stands, and slipped."""
    owner = int(flawless.parts(place[None])[:, 0].argmin())
    if kind == "lost":
        return flawless.without_solid(owner)
    part, tilt = flawless.solids[owner], 0.0
    if torch.rand((), generator=generator) < 0.3:
        tilt = float(uniform(0.1, 0.5, generator, 1))
    angle = log_uniform(0.1, 0.7, generator)
    axis = angle * part.axes[2] + tilt * part.axes[0]
    slip = 0.25 * part.scale * part.size.amax() * torch.randn(2, generator=generator)
    return _moved(flawless, owner, axis, slip @ part.axes[:2])


def _moved(flawless: Object, number: int, turn: Tensor, shift: Tensor) -> Object:
    """With one solid turned about a vector [3] by its length in rad, and shifted by another."""
    solid, solids = flawless.solids[number], list(flawless.solids)
    axes, centre = solid.axes @ torch.matrix_exp(hat(turn)), solid.centre + shift
    solids[number] = replace(solid, axes=axes, centre=centre)
    return flawless.changed(solids=solids)
