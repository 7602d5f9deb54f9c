"""Random shaded solids: view groups by plain ray marching, without a renderer.

A scene is a union of rounded primitives, each of its own pattern, metal and roughness, before a
backdrop or on a plane. The geometry is found once per view; each light then costs only its shading:
wrapped Lambert and a soft highlight per lamp, marched shadows, a sky gradient with ambient
occlusion and its reflection. This is far from a path tracer, but what moves with the light and
what stays does so as in photographs, at two processor seconds a view. World z is up.

    python -m piad.reflectance_solids data/solids
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gaussian_renderer.files import write_image
from piad.reflectance_data import ALBEDO_NAME, MASK_NAME, Group, uniform
from piad.reflectance_net import linear_to_srgb, rolled_off

NUM_LIGHTS = 4
MARCH_STEPS, SHADOW_STEPS = 44, 10
IMAGE_WIDTH = 0.75  # at unit depth
FAR, HIT, SAFE_STEP = 7.0, 4e-3, 0.85  # smooth unions overestimate distances: steps are shortened
KINDS = ("ball", "box", "ring", "rod")


@dataclass
class Solid:
    """A primitive: kind, rotation [3, 3] (rows are its axes), centre [3], sizes [3], material."""

    kind: str
    axes: Tensor
    centre: Tensor
    size: Tensor
    palette: Tensor  # [3, 3] linear colours
    pattern: int
    period: float
    waves: Tensor  # [6, 4] directions and phases of the noise
    metal: float
    roughness: float

    def local(self, points: Tensor) -> Tensor:
        """World points [N, 3] in the primitive's frame."""
        return (points - self.centre) @ self.axes.T

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (a bound of it) of points [N, 3]."""
        return primitive_distance(self.kind, self.local(points), self.size)

    def albedo(self, points: Tensor) -> Tensor:
        """Base colour [N, 3] at points on the surface."""
        p = self.local(points)
        noise = sines(p / self.period, self.waves)
        if self.pattern == 0:
            choice = torch.zeros(len(p), dtype=torch.long)
        elif self.pattern == 1:  # checks
            choice = (torch.floor(p / self.period + 0.01).sum(1) % 2).long()
        elif self.pattern == 2:  # stripes, the thin ones like scratches and print
            phase = (p[:, 0] / self.period + 0.2 * noise) % 1
            choice = (phase > 0.5).long() + (phase > 0.9).long()
        else:  # blotches
            choice = (noise > 0.0).long() + (noise > 0.6).long()
        grain = sines(p * 23.0, self.waves)
        return (self.palette[choice] * (1 + 0.08 * grain[:, None])).clamp(0.005, 0.95)


def primitive_distance(kind: str, points: Tensor, size: Tensor) -> Tensor:
    """Signed distance (a bound of it) [..., N] of points [..., N, 3] in a primitive's own frame.

    Args:
        size: [..., 3], of one primitive or of as many as there are sets of points.
    """
    p, size = points, size[..., None, :]
    a, b = size[..., 0], size[..., 1]
    if kind == "ball":
        return ((p / size).norm(dim=-1) - 1) * size.amin(-1)
    if kind == "box":
        q = p.abs() - (size - 0.04)
        return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0) - 0.04
    radial = p[..., :2].norm(dim=-1)
    if kind == "ring":
        return torch.hypot(radial - (0.2 + a), p[..., 2]) - 0.35 * b
    q = torch.stack([radial - 0.6 * a, p[..., 2].abs() - 1.5 * b], -1) + 0.03
    return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0) - 0.03


def sines(points: Tensor, waves: Tensor) -> Tensor:
    """A cheap smooth noise about -1..1 at points [N, 3]: a product of sums of sines."""
    phases = points @ waves[:, :3].T + waves[:, 3]
    return (phases[:, :3].sin().sum(1) + phases[:, 3:].sin().sum(1).sin()) / 2.2


def random_rotation(generator: Generator) -> Tensor:
    """A rotation drawn evenly, [3, 3]."""
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    return q * torch.sign(torch.diagonal(r))


def random_colours(count: int, generator: Generator) -> Tensor:
    """Linear colours from dark to light, grey to vivid, [count, 3]."""
    level = uniform(-2.8, -0.1, generator, count, 1)
    vividness = uniform(0, 1, generator, count, 1) ** 2
    return torch.exp(level + vividness * torch.randn(count, 3, generator=generator)).clamp(
        0.01, 0.9
    )


def random_solid(generator: Generator, spread: float = 0.5) -> Solid:
    """One primitive with its material."""
    return Solid(
        kind=KINDS[int(torch.randint(len(KINDS), (), generator=generator))],
        axes=random_rotation(generator),
        centre=uniform(-spread, spread, generator, 3),
        size=uniform(0.14, 0.55, generator, 3),
        palette=random_colours(3, generator),
        pattern=int(torch.randint(4, (), generator=generator)),
        period=float(uniform(0.06, 0.35, generator, 1)),
        waves=torch.cat(
            [2.5 * torch.randn(6, 3, generator=generator), uniform(0, 6.3, generator, 6, 1)], 1
        ),
        metal=float(torch.rand((), generator=generator) < 0.35),
        roughness=float(uniform(0.12, 0.9, generator, 1)),
    )


class Solids:
    """A union of primitives and, where `ground` is set, a plane z = ground below them."""

    def __init__(self, solids: list[Solid], fillet: float, ground: Solid | None, height: float):
        self.solids, self.fillet, self.ground, self.height = solids, fillet, ground, height

    def parts(self, points: Tensor) -> Tensor:
        """Distances [P, N] of all parts, the plane last."""
        parts = [solid.distance(points) for solid in self.solids]
        if self.ground is not None:
            parts.append(points[:, 2] - self.height)
        return torch.stack(parts)

    def distance(self, points: Tensor) -> Tensor:
        """Distance [N] of the union, its edges filleted."""
        return -self.fillet * torch.logsumexp(-self.parts(points) / self.fillet, 0)

    def normals(self, points: Tensor) -> Tensor:
        """Outward unit normals [N, 3] by differences over the corners of a tetrahedron."""
        corners = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 2e-3
        total = sum(self.distance(points + c)[:, None] * c for c in corners)
        return F.normalize(total, dim=1)

    def materials(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Albedo [N, 3], metal [N, 1] and roughness [N, 1] of the nearest part."""
        owner = self.parts(points).argmin(0)
        albedo, rest = torch.zeros(len(points), 3), torch.zeros(len(points), 2)
        everything = self.solids + ([self.ground] if self.ground is not None else [])
        for index, solid in enumerate(everything):
            mine = owner == index
            albedo[mine] = solid.albedo(points[mine])
            rest[mine] = torch.tensor([solid.metal, solid.roughness])
        return albedo, rest[:, :1], rest[:, 1:]

    def march(
        self, origin: Tensor, rays: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Distances along unit rays [N, 3] from a point to the surface, and which rays hit.

        Args:
            start: distances [N] before which nothing is hit; None: 1.
        """
        depth = torch.full((len(rays),), 1.0) if start is None else start.clone()
        gap = torch.full((len(rays),), 1.0)
        going = (depth < FAR).nonzero()[:, 0]
        for _ in range(MARCH_STEPS):
            gap[going] = self.distance(origin + depth[going, None] * rays[going])
            depth[going] += SAFE_STEP * gap[going]
            going = going[(gap[going] > 0.3 * HIT) & (depth[going] < FAR)]
            if not len(going):
                break
        return depth, (gap < HIT) & (depth < FAR)

    def shadow(self, points: Tensor, direction: Tensor, softness: float) -> Tensor:
        """Share of a lamp [N, 1] that reaches points, by the narrowest gap on the way."""
        share, depth = torch.ones(len(points)), torch.full((len(points),), 0.04)
        for _ in range(SHADOW_STEPS):
            gap = self.distance(points + depth[:, None] * direction)
            share = torch.minimum(share, (0.5 + gap / (softness * depth)).clamp(0, 1))
            depth = depth + gap.clamp(0.04, 0.4)
        return share[:, None]

    def lobe(self, view: View, lamp: Lamp) -> Tensor:
        """How much of a lamp a mirror sends on, [N, 1]: a soft spot about its reflection."""
        spread = lamp.width**2 + view.roughness**2 * 0.5
        spot = torch.exp(((view.reflected @ lamp.direction)[:, None] - 1) / (0.4 * spread))
        return spot * 0.6 / (0.15 + spread)

    def occlusion(self, points: Tensor, normals: Tensor) -> Tensor:
        """Ambient visibility [N, 1] from distances along the normal."""
        blocked = torch.zeros(len(points))
        for reach, weight in ((0.06, 0.5), (0.15, 0.3), (0.35, 0.2)):
            gap = self.distance(points + reach * normals)
            blocked = blocked + weight * (1 - gap / reach).clamp(0, 1)
        return (1 - 0.8 * blocked)[:, None]


def light_colour(warmth: Tensor) -> Tensor:
    """Linear colour [..., 3] of white light, warm for positive `warmth`, cold for negative."""
    return torch.exp(warmth[..., None] * torch.tensor([0.45, 0.0, -0.6]))


@dataclass
class View:
    """What a camera sees, per hit pixel: geometry and material; `hit` [H, W] says where."""

    hit: Tensor
    points: Tensor
    normals: Tensor
    reflected: Tensor
    facing: Tensor  # cosine between normal and ray, [N, 1]
    visibility: Tensor
    albedo: Tensor
    metal: Tensor
    roughness: Tensor


def look_at(back: Tensor, distance: float) -> Tensor:
    """camera_to_world [4, 4], OpenGL axes: at `distance` along `back` [3], aimed at the origin."""
    right = F.normalize(torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), back), dim=0)
    pose = torch.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, torch.linalg.cross(back, right), back
    pose[:3, 3] = back * distance
    return pose


def random_view(scene: Solids, side: int, generator: Generator) -> View:
    """A view of the scene from a random direction, `side` px square."""
    elevation = float(uniform(0.25 if scene.ground is not None else -0.6, 1.2, generator, 1))
    azimuth = float(uniform(0, 2 * math.pi, generator, 1))
    flat = math.cos(elevation)
    back = torch.tensor([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    return see(scene, look_at(back, float(uniform(2.4, 3.4, generator, 1))), side)


def see(scene: Solids, camera_to_world: Tensor, side: int) -> View:
    """What a camera (OpenGL axes, IMAGE_WIDTH at unit depth) sees, `side` px square."""
    right, up, back, origin = camera_to_world[:3].unbind(1)
    grid = (torch.arange(side) + 0.5) / side - 0.5
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    rays = IMAGE_WIDTH * (x[..., None] * right - y[..., None] * up) - back
    rays = F.normalize(rays.reshape(-1, 3), dim=1)
    depth, hit = scene.march(origin, rays)
    rays = rays[hit]
    points = origin + depth[hit, None] * rays
    normals = scene.normals(points)
    cosine = (normals * rays).sum(1, keepdim=True)
    albedo, metal, roughness = scene.materials(points)
    return View(
        hit=hit.reshape(side, side),
        points=points,
        normals=normals,
        reflected=rays - 2 * cosine * normals,
        facing=-cosine.clamp(max=0),
        visibility=scene.occlusion(points, normals),
        albedo=albedo,
        metal=metal,
        roughness=roughness,
    )


@dataclass(frozen=True)
class Lamp:
    """A lamp at infinity: direction [3] to it, width in rad or so, colour [3] with its power."""

    direction: Tensor
    width: float
    colour: Tensor


@dataclass(frozen=True)
class Light:
    """Lamps, ambience of a colour [3] from `floor` below to `sky` above, exposure, backdrop [3]."""

    ambience: Tensor
    sky: float
    floor: float
    lamps: tuple[Lamp, ...]
    exposure: float  # mean of the exposed linear image over the object
    backdrop: Tensor


def random_light(generator: Generator, above: bool, tint: float = 0.6) -> Light:
    """One to four lamps; all of them above the horizon if `above`, else the main one alone.

    Args:
        tint: standard deviation of the light's warmth, as `light_colour` takes it.
    """
    warmth = tint * torch.randn((), generator=generator)
    sky, floor = uniform(0.05, 0.5, generator, 2).tolist()
    ambience = light_colour(warmth + 0.5 * tint * torch.randn((), generator=generator))
    lamps = []
    for index in range(int(torch.randint(1, 5, (), generator=generator))):
        direction = F.normalize(torch.randn(3, generator=generator), dim=0)
        if above or index == 0:
            direction[2] = direction[2].abs() + 0.2
            direction = F.normalize(direction, dim=0)
        width = float(uniform(0.1, 0.7, generator, 1))
        power = float(torch.exp(uniform(-1.5, 0.5, generator, 1)))
        colour = power * light_colour(warmth + 0.5 * tint * torch.randn((), generator=generator))
        lamps.append(Lamp(direction, width, colour))
    exposure = float(uniform(0.2, 0.55, generator, 1))
    backdrop = uniform(0.2, 0.85, generator, 1) * light_colour(
        0.5 * warmth + 0.1 * torch.randn((), generator=generator)
    )
    return Light(ambience, sky, floor, tuple(lamps), exposure, backdrop)


def radiance(scene: Solids, view: View, light: Light, shadows: int = 1) -> Tensor:
    """Linear light [N, 3] that the view's hit pixels send, not exposed.

    Args:
        shadows: lamps that cast them, the first ones; each costs as much as all the rest.
    """
    mirror = 0.04 + (view.albedo - 0.04) * view.metal  # Schlick's reflectance head on
    mirror = mirror + (1 - mirror) * (1 - view.facing) ** 5 * (1 - 0.7 * view.roughness)
    diffuse = view.albedo * (1 - view.metal)
    sky, floor, ambience = light.sky, light.floor, light.ambience
    up = 0.5 + 0.5 * view.normals[:, 2:]
    seen = torch.sigmoid(view.reflected[:, 2:] * 3 / (0.15 + view.roughness))
    total = diffuse * ambience * view.visibility * (floor + (sky - floor) * up)
    total = total + mirror * ambience * view.visibility * (floor + (sky - floor) * seen)
    for index, lamp in enumerate(light.lamps):
        cosine = view.normals @ lamp.direction
        lambert = ((cosine + 0.5 * lamp.width) / (1 + 0.5 * lamp.width)).clamp(min=0)[:, None]
        lit = lamp.colour
        if index < shadows:
            lit = scene.shadow(view.points, lamp.direction, lamp.width) * lit
        total = total + lit * (diffuse * lambert + mirror * scene.lobe(view, lamp))
    return total


def develop(view: View, light: Light, total: Tensor, gain: Tensor, generator: Generator) -> Tensor:
    """The photograph sRGB [3, H, W] of radiance [N, 3]: exposure by `gain`, tone curve, noise."""
    image = light.backdrop.expand(*view.hit.shape, 3).clone()
    image[view.hit] = total * gain
    srgb = linear_to_srgb(rolled_off(image).permute(2, 0, 1))
    # Anti-aliasing by reduction: callers render at twice the size.
    noise = 0.006 * torch.randn(srgb.shape, generator=generator)
    return (srgb + noise).clamp(0, 1)


def shade(scene: Solids, view: View, generator: Generator) -> Tensor:
    """The view under a random light, sRGB [3, H, W], exposed, with noise."""
    light = random_light(generator, above=scene.ground is not None)
    total = radiance(scene, view, light)
    return develop(view, light, total, light.exposure / total.mean().clamp(min=1e-3), generator)


def shaded_group(name: str, side: int, generator: Generator) -> Group:
    """A random scene from one view under NUM_LIGHTS lights, `side` px, rendered at twice that."""
    count = int(torch.randint(3, 7, (), generator=generator))
    solids = [random_solid(generator) for _ in range(count)]
    ground, height = None, -0.9
    if torch.rand((), generator=generator) < 0.4:
        ground = random_solid(generator)
        ground.metal, ground.axes, ground.centre = 0.0, torch.eye(3), torch.zeros(3)
    scene = Solids(solids, float(uniform(0.005, 0.03, generator, 1)), ground, height)
    view = random_view(scene, 2 * side, generator)
    images = torch.stack([shade(scene, view, generator) for _ in range(NUM_LIGHTS)])
    albedo = torch.zeros(*view.hit.shape, 3)
    albedo[view.hit] = view.albedo
    images, albedo = F.avg_pool2d(images, 2), F.avg_pool2d(albedo.permute(2, 0, 1), 2)
    mask = F.avg_pool2d(view.hit[None].float(), 2)[0] > 0.99
    return Group(
        name, (images * 255).round().to(torch.uint8), mask, (albedo * 255).round().to(torch.uint8)
    )


def main(argv: list[str] | None = None) -> None:
    """Write view groups as folders that `piad.train_reflectance --groups` reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the groups go, one folder each")
    parser.add_argument("--count", type=int, default=240, help="number of scenes")
    parser.add_argument("--side", type=int, default=160, help="side of the images, px")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    for index in range(arguments.count):
        # A scene depends on the seed and its number only, so that a stopped run can go on.
        generator = Generator().manual_seed(1_000_003 * arguments.seed + index)
        target = arguments.folder / f"solids_{index:03}"
        if not (target / ALBEDO_NAME).is_file():
            group = shaded_group(target.name, arguments.side, generator)
            for number, image in enumerate(group.images):
                write_image(target / f"light_{number}.png", image.permute(1, 2, 0).numpy())
            write_image(target / MASK_NAME, group.mask.to(torch.uint8).numpy() * 255)
            write_image(target / ALBEDO_NAME, group.albedo.permute(1, 2, 0).numpy())
    print(f"{arguments.count} view groups in {arguments.folder}")


if __name__ == "__main__":
    main()
