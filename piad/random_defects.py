"""Random defects of random objects: what is added, cut, painted, dented, bent, turned or lost."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gaussian_renderer.se3 import hat
from piad.random_objects import Object, surface_path
from piad.random_shapes import Chain, Shape, Socket, random_blob
from piad.reflectance_data import log_uniform, uniform

# Some twice: what moved shows at its edges only, what is dented by its shading only.
KINDS = (
    *("bump", "chip", "missing", "crack", "burr", "hole", "scratch"),
    *2 * ("bent", "dent", "stain"),
)
LINES = "crack", "scratch"
BARE_SHARE = 0.3  # of lost parts that leave nothing behind
ROUND_SHARE = 0.5  # of the holes they leave, which else have their own shape
HOLE_DEPTH = 1.0, 4.0  # of its radius, or of half the lost part's thickness
SMALL_SHARE, SMALLEST = 0.5, 0.4  # share of the defects that are smaller, and by how much at most
PART_KINDS = "lost", "turned"  # of small parts, where there are some


def random_defect(
    flawless: Object, kind: str, place: Tensor, normal: Tensor, generator: Generator
) -> Object:
    """The object with a defect at a place [3] of its surface with a normal [3]."""
    unit = flawless.camera_distance / 3
    if torch.rand((), generator=generator) < SMALL_SHARE:
        unit = unit * log_uniform(SMALLEST, 1.0, generator)
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
    if kind == "hole":
        radius = unit * log_uniform(0.03, 0.1, generator)
        return _drilled(flawless, place, normal, radius, generator)
    if kind == "dent":
        width = unit * log_uniform(0.06, 0.25, generator)
        depth = width * float(uniform(0.15, 0.7, generator, 1))
        return flawless.changed(warp=(place, width, -depth * normal))
    if kind in PART_KINDS:
        return _with_part_changed(flawless, kind, place, generator)
    if flawless.own_solids > 1 and torch.rand((), generator=generator) < 0.4:
        return _with_solid_moved(flawless, place, generator)
    width = unit * log_uniform(0.1, 0.45, generator)
    shift = 0.5 * width * F.normalize(torch.randn(3, generator=generator), dim=0)
    return flawless.changed(warp=(place, width, shift * float(uniform(0.2, 1.0, generator, 1))))


def _drilled(
    found: Object, place: Tensor, outward: Tensor, radius: float, generator: Generator
) -> Object:
    """With a round hole."""
    depth = float(uniform(*HOLE_DEPTH, generator, 1))
    steps = torch.linspace(0.5, -depth, 4)[:, None]
    hole = Chain(place + steps * radius * outward, radius)
    return _hollow(found, hole, replace(hole, radius=1.1 * radius), generator)


def _hollow(found: Object, hole: Shape, inside: Shape, generator: Generator) -> Object:
    """With a hole; most are dark, or of another colour, `inside` of what is a little wider."""
    found, draw = found.with_cut(hole), float(torch.rand((), generator=generator))
    if draw < 0.3:
        return found
    return (found.with_dark if draw < 0.8 else found.with_paint)(inside, generator)


def _with_solid_moved(flawless: Object, place: Tensor, generator: Generator) -> Object:
    """The solid at a place turned and shifted."""
    owner = int(flawless.parts(place[None])[:, 0].argmin())
    axis = F.normalize(torch.randn(3, generator=generator), dim=0)
    angle = float(uniform(0.05, 0.25, generator, 1))
    shift = 0.04 * torch.randn(3, generator=generator)
    return _moved(flawless, owner, angle * axis, shift)


def _with_part_changed(flawless: Object, kind: str, place: Tensor, generator: Generator) -> Object:
    """The small part at a place lost; or turned, most often about where it stands, and slipped.

    A lost one may leave the hole it sat in, or its print.
    """
    owner = int(flawless.parts(place[None])[:, 0].argmin())
    if kind == "lost":
        return _without_part(flawless, owner, generator)
    part, tilt = flawless.solids[owner], 0.0
    if torch.rand((), generator=generator) < 0.3:
        tilt = float(uniform(0.1, 0.5, generator, 1))
    angle = log_uniform(0.1, 0.7, generator)
    axis = angle * part.axes[2] + tilt * part.axes[0]
    slip = 0.25 * part.scale * part.size.amax() * torch.randn(2, generator=generator)
    return _moved(flawless, owner, axis, slip @ part.axes[:2])


def _without_part(flawless: Object, number: int, generator: Generator) -> Object:
    """Without one of its small parts, and with what was below it."""
    part, bare = flawless.solids[number], flawless.without_solid(number)
    outward, foot = part.axes[2], part.centre[None]
    draw = float(torch.rand((), generator=generator))
    if draw < BARE_SHARE:
        return bare
    foot = part.centre - bare.distance(foot) * outward
    radius = part.scale * float(part.size[:2].amin() * uniform(0.4, 1.0, generator, 1))
    if draw < 0.85 and torch.rand((), generator=generator) < ROUND_SHARE:
        return _drilled(bare, foot, outward, radius, generator)
    if draw < 0.85:
        sunk = replace(part, centre=foot)
        half = part.scale * float(part.size.amin())
        socket = Socket(sunk, half * float(uniform(*HOLE_DEPTH, generator, 1)))
        wider = replace(socket, part=replace(sunk, scale=1.08 * part.scale))
        return _hollow(bare, socket, wider, generator)
    mark = Chain(torch.stack([foot, foot - 0.01 * outward]), radius)
    dark = torch.rand((), generator=generator) < 0.5
    return (bare.with_dark if dark else bare.with_paint)(mark, generator)


def _moved(flawless: Object, number: int, turn: Tensor, shift: Tensor) -> Object:
    """With one solid turned about a vector [3] by its length in rad, and shifted by another."""
    solid, solids = flawless.solids[number], list(flawless.solids)
    axes, centre = solid.axes @ torch.matrix_exp(hat(turn)), solid.centre + shift
    solids[number] = replace(solid, axes=axes, centre=centre)
    return flawless.changed(solids=solids)
