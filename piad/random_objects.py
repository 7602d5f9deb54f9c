"""Random objects of ray-marched solids: their shapes, materials and details.

The solids are those of `piad.reflectance_solids`; `piad.solid_objects` breaks and photographs them.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from piad.random_lights import mirrored
from piad.random_shapes import (
    Chain,
    Part,
    Shape,
    nearby_distances,
    random_blob,
    random_coil,
    random_stack,
)
from piad.reflectance_data import log_uniform, uniform
from piad.reflectance_solids import (
    FAR,
    IMAGE_WIDTH,
    SAFE_STEP,
    Lamp,
    Solid,
    Solids,
    View,
    primitive_distance,
    random_colours,
    random_solid,
)

TABLE_SHARE = 0.3  # of objects that stand on a table
STACK_SHARE = 0.35  # of objects with a stack of like parts or a coil
COIL_SHARE = 0.4  # ... of these, with a coil
PARTS_SHARE = 0.65  # of objects that small parts stand on
METAL_PARTS = 0.4  # of the parts' designs that are of bare metal: rivets, screws, pins
LIKE_BODY = 0.4  # ... of the others, of the material of what they stand on: studs, bosses
GRAINY = 0.25  # roughness of a surface from which on its normals have their full grain
PLATE_SHARE = 0.4  # ... of these, on a flat box alone
# Of one material, up to which share of the objects.
MATERIALS = (("metal", 0.25), ("plain", 0.38), ("glazed", 0.58))
SHAPE = "axes", "centre", "size"  # what tells solids of a kind apart
CONE, CONE_STEPS, CONE_STOP = 16, 40, 0.01  # rays a side that are marched together first


@dataclass(frozen=True)
class Paint:
    """Another material where `shape` is: colour [3], how much of it, roughness.

    Its edge is sharp, or fades over `fade` within the shape.
    """

    shape: Shape
    colour: Tensor
    share: float
    roughness: float
    fade: float = 0.0


class Object(Solids):
    """Solids with grain in their normals, and with what a defect adds, cuts and paints.

    Not to be changed in place: `changed` gives another.
    """

    def __init__(self, solids: list[Solid], fillet: float, grains: Tensor, table: bool) -> None:
        """
        Args:
            grains: of each solid's normals, [P, 5]: amplitude, a frequency per axis, phase.
            table: whether the last solid is one, which no defect touches.
        """
        super().__init__(solids, fillet, None, 0.0)
        self.grains, self.table = grains, table
        self.room = 1.0  # radius of the solids about the origin, without the table
        self.warp: tuple[Tensor, float, Tensor] | None = None  # centre [3], width, shift [3]
        self.added: tuple[Shape, ...] = ()
        self.cut: tuple[Shape, ...] = ()
        self.paints: tuple[Paint, ...] = ()

    def changed(self, **parts: object) -> Object:
        """A copy with other attributes."""
        other = copy.copy(self)
        vars(other).pop("_layout", None)
        vars(other).update(parts)
        return other

    def with_added(self, shape: Shape) -> Object:
        """With a shape on it."""
        return self.changed(added=(*self.added, shape))

    def with_cut(self, shape: Shape) -> Object:
        """With a shape cut out of it."""
        return self.changed(cut=(*self.cut, shape))

    def with_paint(self, shape: Shape, generator: Generator, fade: float = 0) -> Object:
        """With a random material where a shape is."""
        paint = replace(random_paint(shape, generator), fade=fade)
        return self.changed(paints=(*self.paints, paint))

    def with_dark(self, shape: Shape, generator: Generator, fade: float = 0) -> Object:
        """With a dark, rough material where a shape is: soot, the depth of a crack."""
        colour = 0.01 * torch.exp(1.2 * torch.rand(1, generator=generator))
        paint = replace(random_paint(shape, generator), roughness=0.9, fade=fade)
        return self.changed(paints=(*self.paints, replace(paint, colour=colour.expand(3))))

    def with_solid(self, solid: Solid, number: int, generator: Generator) -> Object:
        """With one more solid, put in before the one of that number."""
        parts = self.grains[:number], _random_grains(1, generator), self.grains[number:]
        solids = [*self.solids[:number], solid, *self.solids[number:]]
        return self.changed(solids=solids, grains=torch.cat(parts))

    def without_solid(self, number: int) -> Object:
        """With one solid less."""
        kept = [other for other in range(len(self.solids)) if other != number]
        return self.changed(solids=[self.solids[k] for k in kept], grains=self.grains[kept])

    @property
    def own_solids(self) -> int:
        """How many solids it has, the table not counted."""
        return len(self.solids) - self.table

    @property
    def small(self) -> Tensor:
        """Which solids are small parts, [P] bool."""
        return torch.tensor([type(solid) is Part for solid in self.solids])

    @property
    def camera_distance(self) -> float:
        """From where the object about fills the image."""
        return min(max(self.room / (0.37 * IMAGE_WIDTH), 2.2), 4.4)

    @cached_property
    def _layout(
        self,
    ) -> tuple[list[tuple[str, Tensor, Tensor, Tensor, Tensor]], list[Solid], Tensor]:
        """What `parts` measures: plain solids by kind, others one by one.

        Of each kind axes, centres, sizes and scales [P, 1]; then the others, and where each solid
        comes out.
        """
        kinds: dict[str, list[int]] = {}
        others = []
        for number, solid in enumerate(self.solids):
            alike = type(solid) in (Solid, Part)
            own = kinds.setdefault(solid.kind, []) if alike else others
            own.append(number)
        groups = []
        for kind, numbers in kinds.items():
            solids = [self.solids[number] for number in numbers]
            shapes = (torch.stack([getattr(s, key) for s in solids]) for key in SHAPE)
            scales = torch.tensor([[getattr(s, "scale", 1.0)] for s in solids])
            groups.append((kind, *shapes, scales))
        order = [number for numbers in (*kinds.values(), others) for number in numbers]
        return groups, [self.solids[number] for number in others], torch.tensor(order).argsort()

    def parts(self, points: Tensor) -> Tensor:
        """Distances [P, N] of the solids, pushed aside where the object is warped."""
        if self.warp is not None:
            centre, width, shift = self.warp
            away = (points - centre).square().sum(1, keepdim=True)
            points = points - shift * torch.exp(-0.5 * away / width**2)
        groups, others, places = self._layout
        found = [
            scales
            * primitive_distance(
                kind, (points - centres[:, None]) @ axes.mT / scales[..., None], sizes
            )
            for kind, axes, centres, sizes, scales in groups
        ]
        found += [solid.distance(points)[None] for solid in others]
        return torch.cat(found)[places]

    def distance(self, points: Tensor) -> Tensor:
        """Distance [N] of the object as it is."""
        found, count = super().distance(points), len(self.added)
        if self.added or self.cut:
            shapes = nearby_distances((*self.added, *self.cut), points)
            if self.added:
                found = torch.minimum(found, shapes[:, :count].amin(1))
            if self.cut:
                found = torch.maximum(found, -shapes[:, count:].amin(1))
        return found

    def lobe(self, view: View, lamp: Lamp) -> Tensor:
        """A lamp's image in a mirror, [N, 1], as what it is."""
        return mirrored(lamp, view)

    def march(
        self, origin: Tensor, rays: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the base's; an image's rays are first marched as cones of CONE x CONE of them.

        Not on GPUs, which wait for the next step and not for rays.
        """
        side = math.isqrt(len(rays))
        if start is None and not rays.is_cuda and side * side == len(rays) and side % CONE == 0:
            blocks = rays.reshape(side // CONE, CONE, side // CONE, CONE, 3)
            middle = F.normalize(blocks.mean((1, 3)).reshape(-1, 3), dim=1)
            width = (blocks - middle.reshape(side // CONE, 1, -1, 1, 3)).norm(dim=4).max()
            depth = self._march_cones(origin, middle, width)
            depth = depth.reshape(side // CONE, 1, -1, 1)
            start = depth.expand(-1, CONE, -1, CONE).reshape(-1)
        return super().march(origin, rays, start)

    def _march_cones(self, origin: Tensor, rays: Tensor, width: Tensor) -> Tensor:
        """Distances [N] along rays [N, 3] up to which cones of `width` per distance are empty."""
        depth, going = torch.full((len(rays),), 1.0), torch.arange(len(rays))
        for _ in range(CONE_STEPS):
            gap = self.distance(origin + depth[going, None] * rays[going])
            step = SAFE_STEP * (gap - width * depth[going])
            depth[going] += step.clamp_min(0)
            going = going[(step > CONE_STOP) & (depth[going] < FAR)]
            if not len(going):
                break
        return depth

    def normals(self, points: Tensor) -> Tensor:
        """Normals [N, 3] with the grain of the nearest solid."""
        smooth = super().normals(points)
        owner = self.parts(points).argmin(0)
        grain, waves = self.grains[owner], torch.stack([s.waves for s in self.solids])[owner]
        phase = points * grain[:, 1:4] + grain[:, 4:]
        tilt = torch.sin(phase + 3 * torch.sin(phase.roll(1, 1) * 0.7 + waves[:, :3, 3]))
        return F.normalize(smooth + grain[:, :1] * tilt, dim=1)

    def materials(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Albedo, metal and roughness of the nearest solid, and paint over it."""
        albedo, metal, roughness = super().materials(points)
        if not self.paints:
            return albedo, metal, roughness
        depths = -nearby_distances([paint.shape for paint in self.paints], points)
        for paint, depth in zip(self.paints, depths[..., None].unbind(1), strict=True):
            inside = paint.share * (depth / max(paint.fade, 1e-6)).clamp(0, 1)
            albedo = albedo + inside * (paint.colour - albedo)
            metal = metal * (1 - inside)
            roughness = roughness + inside * (paint.roughness - roughness)
        return albedo, metal, roughness


def random_object(generator: Generator) -> Object:
    """Three to six solids about the origin; some stand on a table."""
    count = int(torch.randint(3, 7, (), generator=generator))
    solids = [random_solid(generator, spread=0.4) for _ in range(count)]
    if torch.rand((), generator=generator) < STACK_SHARE:
        coil = torch.rand((), generator=generator) < COIL_SHARE
        solids[0] = (random_coil if coil else random_stack)(solids[0], generator)
        solids = solids[: int(torch.randint(1, 4, (), generator=generator))]
    parts = bool(torch.rand((), generator=generator) < PARTS_SHARE)
    if parts and torch.rand((), generator=generator) < PLATE_SHARE:
        flat = uniform(0.05, 0.15, generator, 1)
        size = torch.cat([uniform(0.4, 0.8, generator, 2), flat])
        solids = [replace(solids[0], kind="box", size=size)]
    _choose_materials(solids, generator)
    steps = torch.linspace(-1.5, 1.5, 56)
    grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    inside = grid[torch.stack([solid.distance(grid) for solid in solids]).amin(0) < 0.02]
    middle = 0.5 * (inside.amin(0) + inside.amax(0))
    for solid in solids:
        solid.centre = solid.centre - middle
    inside = inside - middle
    table = bool(torch.rand((), generator=generator) < TABLE_SHARE)
    if table:
        solids.append(_table(float(inside[:, 2].min()), generator))
    fillet = float(uniform(0.004, 0.03, generator, 1))
    grains, roughness = _random_grains(len(solids), generator), [s.roughness for s in solids]
    grains[:, 0] *= (torch.tensor(roughness) / GRAINY).clamp(0.1, 1)  # a glaze has little
    found = Object(solids, fillet, grains, table)
    found.room = float(inside.norm(dim=1).max())
    if parts:
        found = _with_parts(found.changed(fillet=0.25 * fillet), generator)
    for _ in range(int(torch.randint(0, 9, (), generator=generator))):
        found = _with_detail(found, generator)
    return found


def _random_grains(count: int, generator: Generator) -> Tensor:
    """Grains of so many solids, as `Object` takes them."""
    amplitude = 0.12 * uniform(0, 1, generator, count, 1) ** 2
    frequency = torch.exp(uniform(1.5, 4.2, generator, count, 3))
    phase = uniform(0, 2 * math.pi, generator, count, 1)
    return torch.cat([amplitude, frequency, phase], 1)


def _choose_materials(solids: list[Solid], generator: Generator) -> None:
    """Most objects are of one material: metal, plain or glazed; others stay as they are."""
    draw = float(torch.rand((), generator=generator))
    for solid in solids:
        if torch.rand((), generator=generator) < 0.3:  # narrow grooves, fine print
            solid.period *= 0.3
    kind = next((name for name, share in MATERIALS if draw < share), None)
    if kind is None:
        return
    metal = kind == "metal"
    darkest = -2.8 if kind == "glazed" else -1.6
    level = float(torch.exp(uniform(darkest, -0.2, generator, 1)))
    tint = torch.exp((0.12 if metal else 0.5) * torch.randn(3, generator=generator))
    contrast = float(uniform(0.0, 0.5, generator, 1)) ** 2
    roughness = float(uniform(*((0.03, 0.15) if kind == "glazed" else (0.15, 0.65)), generator, 1))
    for solid in solids:
        shades = torch.exp(contrast * torch.randn(3, 1, generator=generator))
        solid.palette = (level * tint * shades).clamp(0.02, 0.92)
        solid.metal = float(metal)
        solid.roughness = roughness * float(uniform(0.8, 1.3, generator, 1))
        if torch.rand((), generator=generator) < 0.6:
            solid.pattern = 0


def _random_place(
    found: Object, generator: Generator, reach: float = 0.3
) -> tuple[Tensor, Tensor] | None:
    """A point [3] of the surface and its normal [3], neither on the table nor on a part.

    It is sought along rays that pass the origin within `reach`.
    """
    rays = F.normalize(torch.randn(64, 3, generator=generator), dim=1)
    origin = -2.5 * rays[0] + 0.3 * torch.randn(3, generator=generator)
    aim = F.normalize(reach * rays - origin, dim=1)
    depth, hit = found.march(origin, aim)
    points = (origin + depth[:, None] * aim)[hit]
    owner = found.parts(points).argmin(0)
    points = points[(owner < found.own_solids) & ~found.small[owner]]
    if not len(points):
        return None
    return points[0], Solids.normals(found, points[:1])[0]


def _with_parts(found: Object, generator: Generator) -> Object:
    """Small parts of one to four designs on the surface, some of them turned as the first one."""
    designs = []
    for _ in range(int(torch.randint(1, 5, (), generator=generator))):
        scale = log_uniform(0.12, 0.4, generator)
        design = Part(**vars(random_solid(generator)), scale=scale)
        if torch.rand((), generator=generator) < METAL_PARTS:
            level = torch.exp(
                uniform(-1.2, -0.1, generator, 1) + 0.1 * torch.randn(3, generator=generator)
            )
            smooth = float(uniform(0.1, 0.45, generator, 1))
            design = replace(
                design, metal=1.0, roughness=smooth, pattern=0, palette=level.expand(3, 3)
            )
        elif torch.rand((), generator=generator) < LIKE_BODY:
            body = found.solids[int(torch.randint(found.own_solids, (), generator=generator))]
            look = ("metal", "roughness", "pattern", "palette")
            design = replace(design, **{key: getattr(body, key) for key in look})
        designs.append(design)
    aligned = torch.rand((), generator=generator)
    heading = torch.randn(3, generator=generator)
    for _ in range(int(torch.randint(4, 16, (), generator=generator))):
        design = designs[int(torch.randint(len(designs), (), generator=generator))]
        at = _random_place(found, generator, 0.8 * found.room)
        others = [solid.centre for solid in found.solids if type(solid) is Part]
        room = 1.5 * design.scale * design.size.amax()
        if at is None or any((at[0] - other).norm() < room for other in others):
            continue
        place, normal = at
        if torch.rand((), generator=generator) > aligned:
            heading = torch.randn(3, generator=generator)
        first = F.normalize(heading - (heading @ normal) * normal, dim=0)
        axes = torch.stack([first, torch.linalg.cross(normal, first), normal])
        raised = float(uniform(0.0, 0.8, generator, 1)) * design.scale * design.size[2]
        part = replace(design, axes=axes, centre=place + raised * normal)
        found = found.with_solid(part, found.own_solids, generator)
    return found


def _with_detail(found: Object, generator: Generator) -> Object:
    """A rib, a groove, a knob, a hole, a mark or print that belongs to the flawless object."""
    at = _random_place(found, generator)
    if at is None:
        return found
    (place, normal), kind = at, int(torch.randint(6, (), generator=generator))
    size = log_uniform(0.04, 0.15, generator)
    if kind < 2:
        path = surface_path(found, place, normal, generator)
        chain = Chain(path, float(uniform(0.01, 0.03, generator, 1)))
        return found.with_added(chain) if kind else found.with_cut(chain)
    blob = random_blob(place, size, generator)
    if kind == 2:
        return found.with_added(blob)
    if kind == 3:
        return found.with_cut(blob)
    if kind == 4:
        return found.with_paint(blob, generator)
    return _with_print(found, place, normal, 1.5 * size, generator)


def _with_print(
    found: Object, place: Tensor, normal: Tensor, height: float, generator: Generator
) -> Object:
    """With a line of signs of one height, each of a few strokes of one paint."""
    count = int(torch.randint(2, 8, (), generator=generator))
    thickness = height * float(uniform(0.05, 0.13, generator, 1))
    first = F.normalize(torch.linalg.cross(torch.randn(3, generator=generator), normal), dim=0)
    axes = torch.stack([first, torch.linalg.cross(normal, first)])
    signs = []
    for number in range(count):
        corners = torch.randint(
            3, (int(torch.randint(3, 6, (), generator=generator)), 2), generator=generator
        )
        flat = 0.5 * height * corners * torch.tensor([0.6, 1.0])
        flat[:, 0] += 0.9 * height * (number - 0.5 * count)
        points = place + flat @ axes
        for _ in range(2):
            points = points - found.distance(points)[:, None] * Solids.normals(found, points)
        signs.append(Chain(points, thickness))
    paint = random_paint(signs[0], generator)
    return found.changed(paints=(*found.paints, *(replace(paint, shape=sign) for sign in signs)))


def _table(lowest: float, generator: Generator) -> Solid:
    """A round table right below the solids."""
    table, height = random_solid(generator), 0.05
    table.kind, table.axes, table.metal = "rod", torch.eye(3), 0.0
    table.size = torch.tensor([float(uniform(1.9, 3.0, generator, 1)), height, height])
    table.centre = torch.tensor([0.0, 0.0, lowest - 1.5 * height + 0.01])
    if torch.rand((), generator=generator) < 0.6:
        table.pattern = 0
    return table


def random_paint(shape: Shape, generator: Generator) -> Paint:
    return Paint(
        shape,
        random_colours(1, generator)[0],
        float(uniform(0.5, 1.0, generator, 1)),
        float(uniform(0.15, 0.9, generator, 1)),
    )


def surface_path(flawless: Object, place: Tensor, normal: Tensor, generator: Generator) -> Tensor:
    """A wandering line on the surface through a place, [M, 3]."""
    heading = torch.randn(3, generator=generator)
    point, points = place, [place]
    for _ in range(int(torch.randint(5, 14, (), generator=generator))):
        heading = heading + 0.5 * torch.randn(3, generator=generator)
        heading = F.normalize(heading - (heading @ normal) * normal, dim=0)
        point = point + 0.04 * heading
        normal = Solids.normals(flawless, point[None])[0]
        point = point - flawless.distance(point[None]) * normal
        points.append(point)
    return torch.stack(points)
