"""Toys built of plastic bricks with studs, glossy and strongly coloured, and their defects."""

from typing import NamedTuple

import numpy as np

from .cameras import random_direction
from .lights import smoothstep
from .marks import described, face_axes, scratched
from .mesh import Mesh, both, box, cylinder, mesh_from_distance, smooth_min, unit
from .noise import fractal_noise_3d

PITCH, PLATE = 0.19, 0.076  # from stud to stud; height of a plate, a third of a brick's
STEP = 0.008
STUD, STUD_HEIGHT = 0.3 * PITCH, 0.21 * PITCH
WALL, CAVITY = 0.036, 0.05  # of the hollow underside: thickness, depth
TUBE = 0.3 * PITCH, 0.41 * PITCH  # inner and outer radius
ROUNDING, LIP, CONE = 0.012, 0.025, 0.35  # the last: how much a cone narrows by its height
SEAM = 0.006  # points that near to two bricks lie in the gap between them
MARGIN = 0.05  # a brick matters up to this far from its bounds
STEPS = np.array([PITCH, PITCH, PLATE])
STAINS = np.array(
    [(0.03, 0.02, 0.012), (0.42, 0.02, 0.02), (0.03, 0.26, 0.06), (0.80, 0.78, 0.72)]
    + [(0.35, 0.24, 0.12), (0.30, 0.05, 0.33)]
)
BLOCKS = "brick", "tile", "panel", "slope", "under"  # forms with straight edges
CARRIED = 2  # places in the list of bricks from a disc or shield to what it carries
DARK = (0.008, 0.008, 0.008)


class Brick(NamedTuple):
    """Corners in studs, studs and plates from the tail's end, the middle and the ground.

    Forms: brick (studs on top), tile (none), panel (a thin tile on edge), round (a cylinder), cone
    (narrower above), disc (lies in the side), shield (a disc that faces along x), peg (a stud in
    the side), slope and under (cut obliquely above and below, towards `towards` along x).
    """

    form: str
    colour: int
    low: tuple
    high: tuple
    loose: bool = False  # small and outside: may be missing
    towards: int = 0


def pair(form, colour, low, high, loose=False, towards=0):
    """A brick on the left (y > 0) and its like on the right."""
    mirrored = (low[0], -high[1], low[2]), (high[0], -low[1], high[2])
    return [Brick(form, colour, *c, loose, towards) for c in ((low, high), mirrored)]


class Model:
    """A toy of bricks: its solid, its looks and its defects (burr, missing, stain, scratch)."""

    def __init__(self, bricks, origin, grid, aim, colours, shown) -> None:
        """What it is built of.

        Args:
            bricks: list of Brick; origin: its place, as corners of bricks are given, [3].
            grid: lowest and highest corner, world units, [3] each; aim: the same of a box that
                places for defects are looked for in.
            colours: linear RGB, [K, 3]; shown: which of STAINS show on each.
        """
        self.bricks, self.origin, self.grid, self.aim = bricks, np.array(origin), grid, aim
        self.colours, self.shown = np.array(colours), shown
        self._studs = None

    def random_defect(self, kind: str, rng: np.random.Generator) -> dict:
        """Parameters of a defect of `kind` (burr, missing, stain, scratch)."""
        centre, normal, brick = self._open_place(rng)
        if kind == "burr":  # flash at an edge, or bumps of a face
            flash = rng.random() < 0.6
            sizes = {
                "flash": flash,
                "lean": rng.uniform(-0.5, 0.5),
                "length": rng.uniform(0.09, 0.20),
            }
            sizes |= {"height": rng.uniform(0.05, 0.10), "radius": rng.uniform(0.045, 0.075)}
            sizes |= {"count": rng.integers(1, 4), "axis": 0}
            if flash:
                while (edge := self._edge(centre, normal, brick)) is None:
                    centre, normal, brick = self._open_place(rng)
                centre, normal, sizes["axis"] = edge
            sizes["brick"] = brick
        elif kind == "missing":  # a stud or a small brick
            sizes = {"brick": -1, "deep": rng.uniform(0.006, 0.05)}
            if rng.random() < 0.45:
                studs = self._free_studs()
                centre, normal = studs[rng.integers(len(studs))], (0, 0, 1)
            else:
                brick = int(rng.choice([k for k, b in enumerate(self.bricks) if b.loose]))
                low, high = self._bounds(self.bricks[brick])
                centre, normal, sizes["brick"] = (low + high) / 2, self._way_out(brick), brick
        elif kind == "stain":
            shown = self.shown[self.bricks[brick].colour]
            sizes = {"radius": rng.uniform(0.06, 0.12), "stretch": rng.uniform(1.0, 2.6)}
            sizes |= {"angle": rng.uniform(0, np.pi), "strength": rng.uniform(0.7, 0.97)}
            sizes |= {"colour": rng.choice(shown), "roughness": rng.uniform(0.15, 0.6)}
        elif kind == "scratch":
            sizes = {"length": rng.uniform(0.12, 0.26), "width": rng.uniform(0.011, 0.016)}
            sizes |= {"angle": rng.uniform(0, np.pi), "count": rng.integers(1, 4)}
        else:
            raise ValueError(f"a toy of bricks has no defect {kind!r}")
        return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)

    def _bounds(self, brick):
        """Lower and upper corner in world units, each [3]."""
        return [(np.array(corner) - self.origin) * STEPS for corner in (brick.low, brick.high)]

    def _each(self, x, y, z, defect):
        """The bricks that are there: index, where each matters and its values there."""
        gone = set()
        if defect and defect["kind"] == "missing" and defect["brick"] >= 0:
            gone = {int(defect["brick"])}
            if self.bricks[min(gone)].form in ("disc", "shield"):
                gone.add(min(gone) + CARRIED)
        for k, brick in enumerate(self.bricks):
            if k not in gone:
                near = _within(x, y, z, *self._bounds(brick), MARGIN)
                yield k, near, _shape(x[near], y[near], z[near], brick, *self._bounds(brick))

    def distance(self, x, y, z, defect: dict | None = None):
        """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
        solid = np.full_like(x, MARGIN)
        for _, near, values in self._each(x, y, z, defect):
            solid[near] = np.minimum(solid[near], values)
        if not defect or defect["kind"] not in ("burr", "missing"):
            return solid
        centre = np.array(defect["centre"])
        near = _within(x, y, z, centre, centre, 0.25)
        away = [v[near] - c for v, c in zip((x, y, z), centre, strict=True)]
        if defect["kind"] == "burr":
            solid[near] = smooth_min(solid[near], _stuck_on(away, defect), 0.008)
        elif defect["brick"] < 0:
            solid[near] = np.maximum(solid[near], -_sunk(away, defect))
        return solid

    def _nearest(self, points, defect: dict | None = None):
        """Of points [N, 3]: the nearest brick, distances to it and to the next, each [N]."""
        first, second = np.full((2, len(points)), MARGIN)
        which = np.zeros(len(points), int)
        for k, near, values in self._each(*points.T, defect):
            near, values = near.nonzero()[0], np.abs(values)
            second[near] = np.minimum(second[near], np.maximum(values, first[near]))
            closer = values < first[near]
            which[near[closer]], first[near[closer]] = k, values[closer]
        return which, first, second

    def _open_place(self, rng):
        """A point of a flat face, its normal, each [3], and the brick's index."""
        while True:
            out = random_direction(rng)
            aim = rng.uniform(*self.aim)
            way = aim + np.linspace(1.5, -1.5, 1501)[:, None] * out
            first = (self.distance(*way.T) < 0.001).argmax()  # 0 when nothing is hit
            if first == 0 or out[2] < -0.5:
                continue
            point, off = way[first], np.eye(3)
            normal = unit(
                self.distance(*(point + 0.004 * off).T) - self.distance(*(point - 0.004 * off).T)
            )
            sides = np.cross(normal, off[np.abs(normal).argmin()]), np.zeros(3)
            sides = unit(np.array([sides[0], np.cross(normal, sides[0])]))
            around = point + 0.025 * np.concatenate([sides, -sides])
            level = np.abs(self.distance(*around.T)).max() < 0.006
            if (
                level
                and normal @ out > 0.3
                and self.distance(*(point + 0.1 * normal)[:, None]) > 0.045
            ):
                return point, normal, int(self._nearest(point[None])[0][0])

    def _edge(self, point, normal, brick: int):
        """The free edge of a brick's face nearest to a point: centre, outwards, its axis."""
        face, (low, high) = int(np.abs(normal).argmax()), self._bounds(self.bricks[brick])
        level = high[face] if normal[face] > 0 else low[face]
        if self.bricks[brick].form not in BLOCKS or abs(point[face] - level) > 0.01:
            return None
        found = []
        for axis in {0, 1, 2} - {face}:
            for side in (-1, 1):
                edge = np.clip(point, low + 0.03, high - 0.03)
                edge[face], edge[axis] = level, high[axis] if side > 0 else low[axis]
                out = np.sign(normal) * (np.arange(3) == face) + side * np.eye(3)[axis]
                probes = edge + np.outer([0.03, -0.015], out)
                outside, inside = self.distance(*probes.T)
                if outside > 0.03 and inside < -0.005:
                    found.append((abs(point[axis] - edge[axis]), edge, unit(out), 3 - face - axis))
        return min(found, key=lambda one: one[0])[1:] if found else None

    def _free_studs(self):
        """Middles of the studs' feet with nothing on them, [N, 3]."""
        if self._studs is not None:
            return self._studs
        feet = []
        for brick in self.bricks:
            if brick.form in ("brick", "slope", "under", "round"):
                low, high = self._bounds(brick)
                for i, j in np.ndindex(*np.round((high - low)[:2] / PITCH).astype(int)):
                    feet.append((*low[:2] + PITCH * (np.array([i, j]) + 0.5), high[2]))
        feet = np.array(feet)
        on, above = (self.distance(*(feet + [0, 0, up]).T) for up in (STUD_HEIGHT / 2, 0.07))
        self._studs = feet[(on < -0.01) & (above > 0.02)]
        return self._studs

    def _way_out(self, brick: int):
        """Where to a brick is free, unit [3]."""
        low, high = self._bounds(self.bricks[brick])
        faces = np.concatenate([np.eye(3), -np.eye(3)])
        probes = (low + high) / 2 + faces * ((high - low) / 2 + 0.07)
        return unit((faces * (self.distance(*probes.T) > 0.02)[:, None]).sum(0) + [0, 0, 1e-3])

    def mesh(self, defect: dict | None = None, printed=None) -> Mesh:
        """The surface with colour, metallic and roughness per vertex.

        Args:
            printed: takes points [N, 3], the brick of each [N] and the defect, and returns which
                points are inked [N] and their ink's colour [N, 3].
        """
        kind = defect["kind"] if defect else None
        solid = mesh_from_distance(lambda x, y, z: self.distance(x, y, z, defect), *self.grid, STEP)
        points = solid.vertices
        which, _, second = self._nearest(points, defect)
        if kind == "burr":
            burr = self.distance(*points.T) > 0.004
            which[burr] = int(defect["brick"])
        colour = np.array([b.colour for b in self.bricks])[which]
        shade = 1 + 0.03 * np.random.default_rng(1).uniform(-1, 1, len(self.bricks))[which]
        mottle = fractal_noise_3d(points, 6, 2, 3)
        look = np.zeros((len(points), 5))  # colour, metallic, roughness
        look[:, :3] = self.colours[colour] * (shade + 0.02 * mottle)[:, None]
        look[:, 4] = 0.16 + 0.02 * mottle
        if printed is not None:
            inked, inks = printed(points, which, defect)
            look[inked, :3] = inks[inked]
        gap = smoothstep((SEAM - second) / SEAM + 0.5)[:, None]
        look = look * (1 - gap) + np.array([*DARK, 0, 0.7]) * gap
        if kind == "burr":
            look[burr, :3] = 0.85 * self.colours[colour[burr]] + 0.10
            look[burr, 4] = 0.3
        if kind == "missing" and defect["brick"] < 0:
            scar = np.abs(_sunk((points - np.array(defect["centre"])).T, defect)) < 0.005
            look[scar, :3] = 0.7 * look[scar, :3] + 0.12
            look[scar, 4] = 0.6
        if kind == "scratch":
            scored = _scored(points, defect)
            pale = (self.colours[colour, 1] > 0.4)[:, None]
            look[scored, :3] = np.where(pale, 0.3 * look[:, :3], 0.6 * look[:, :3] + 0.26)[scored]
            look[scored, 4] = 0.6
        if kind == "stain":
            cover = _cover(points, defect)[:, None]
            spot = np.array([*STAINS[int(defect["colour"])], 0, defect["roughness"]])
            look = look * (1 - cover) + spot * cover
        return solid.painted(look, least_roughness=0.1)


def _shape(x, y, z, brick, low, high):
    """Distance-like value of a brick between two corners [3]; arrays of one shape, world units."""
    half, (cx, cy, cz) = (high - low) / 2, (low + high) / 2
    if brick.form in ("disc", "peg"):
        reach = cylinder(x - cx, z - cz, 0)
        return box(reach, y - cy, 0 * x, (half[0], half[1], 1), ROUNDING)
    if brick.form == "shield":
        reach = cylinder(y - cy, z - cz, 0)
        return box(reach, x - cx, 0 * x, (half[1], half[0], 1), ROUNDING)
    if brick.form == "cone":
        reach = cylinder(x - cx, y - cy, 0) + CONE * (z - low[2])
        return 0.9 * box(reach, z - cz, 0 * x, (half[0], half[2], 1), ROUNDING)
    if brick.form == "round":
        solid = box(cylinder(x - cx, y - cy, 0), z - cz, 0 * x, (half[0], half[2], 1), ROUNDING)
    else:
        solid = box(x - cx, y - cy, z - cz, half, ROUNDING) - 0.001
    studs_low, studs_high = low.copy(), high.copy()
    if brick.form in ("slope", "under"):
        length, drop = 2 * half[0], 2 * half[2] - LIP
        run = length - PITCH if length > 1.5 * PITCH else length - 0.02
        inwards = half[0] - brick.towards * (x - cx)  # from the low end
        above = z - low[2] if brick.form == "slope" else high[2] - z
        cut = (above - LIP - inwards * drop / run) * run / np.hypot(run, drop)
        solid = -smooth_min(-solid, -cut, 0.006)
        if brick.form == "slope" and brick.towards > 0:
            studs_high[0] -= run
        elif brick.form == "slope":
            studs_low[0] += run
    counts = np.round((studs_high - studs_low)[:2] / PITCH)
    if brick.form != "tile" and counts.all():
        off = [_fold(v - a, n) for v, a, n in zip((x, y), studs_low[:2], counts, strict=True)]
        reach = cylinder(*off, 0)
        stud = box(reach, z - high[2], 0 * x, (STUD, STUD_HEIGHT, 1), 0.008)
        solid = np.minimum(solid, stud)
    if brick.form in ("brick", "tile"):
        return np.maximum(solid, -_cavity(x, y, z, low, high))
    if brick.form == "slope":
        return np.maximum(solid, -both(_cavity(x, y, z, low, high), cut + 0.03))
    return solid


def _fold(along, count):
    """From the middle of the nearest of `count` pitches that start at 0."""
    return along - PITCH * (np.floor(along / PITCH).clip(0, count - 1) + 0.5)


def _cavity(x, y, z, low, high):
    """Distance-like value of the hollow below a brick, tubes or pins left standing."""
    half, (cx, cy, _) = (high - low) / 2, (low + high) / 2
    inside = box(x - cx, y - cy, z - low[2], (half[0] - WALL, half[1] - WALL, CAVITY), 0.006)
    counts = np.round((high - low)[:2] / PITCH)
    if counts.max() < 2:
        return inside
    off = [
        _fold(v - a - PITCH / 2, n - 1) if n > 1 else v - a - PITCH / 2
        for v, a, n in zip((x, y), low[:2], counts, strict=True)
    ]
    reach = cylinder(*off, 0)
    if counts.min() > 1:
        return both(inside, -both(reach - TUBE[1], TUBE[0] - reach))
    return both(inside, 0.09 * PITCH - reach)


def _within(x, y, z, low, high, margin):
    """Where points lie in a box or up to `margin` from it: bool as x, or slices of a grid."""
    if np.ndim(x) == 3:
        axes = x[:, 0, 0], y[0, :, 0], z[0, 0, :]
        ends = zip(axes, low - margin, high + margin, strict=True)
        return tuple(slice(*np.searchsorted(axis, (a, b))) for axis, a, b in ends)
    inside = np.ones(np.shape(x), bool)
    for v, a, b in zip((x, y, z), low, high, strict=True):
        inside &= np.abs(v - (a + b) / 2) < (b - a) / 2 + margin
    return inside


def _sunk(away, defect):
    """Distance-like value of where a stud was and of the hollow it left."""
    x, y, z = away
    return both(cylinder(x, y, STUD + 0.006), np.abs(z - 0.05) - 0.05 - defect["deep"])


def _stuck_on(away, defect):
    """Distance-like value of flash, a thin fin along an edge, or of bumps, flattened balls."""
    normal, rng = np.array(defect["normal"]), np.random.default_rng(defect["seed"])
    up = sum(a * n for a, n in zip(away, normal, strict=True))
    if defect["flash"]:
        line, half = np.eye(3)[int(defect["axis"])], defect["length"] / 2
        along = away[int(defect["axis"])]
        across = sum(a * c for a, c in zip(away, np.cross(normal, line), strict=True))
        start, waves = rng.uniform(0, 6, 2), rng.uniform(25, 60, 2)
        ragged = 0.8 + 0.1 * sum(np.sin(w * along + s) for w, s in zip(waves, start, strict=True))
        top = defect["height"] * ragged * np.sqrt(np.clip(1 - (along / half) ** 2, 0, 1))
        thin = np.abs(across - defect["lean"] * up) - 0.012
        return both(thin, up - top, -0.02 - up, np.abs(along) - half)
    bumps = []
    for k in range(int(defect["count"])):
        radius = defect["radius"] * (1 if k == 0 else rng.uniform(0.5, 0.9))
        shift = rng.uniform(-1.5, 1.5, 3) * defect["radius"] * (k > 0)
        shift -= normal * (shift @ normal)
        height = up * (1 / rng.uniform(0.6, 1.1) - 1)
        reach = [a - s + height * n for a, s, n in zip(away, shift, normal, strict=True)]
        bumps.append(np.sqrt(sum(r * r for r in reach)) - radius)
    return np.minimum.reduce(bumps)


def _scored(points, defect) -> np.ndarray:
    """Which of the points [N, 3] lie in one of a few scratches side by side, [N] bool."""
    rng, scored = np.random.default_rng(defect["seed"]), np.zeros(len(points), bool)
    normal = np.array(defect["normal"])
    for k in range(int(defect["count"])):
        shift = rng.uniform(-0.04, 0.04, 3) * (k > 0)
        shift -= normal * (shift @ normal)
        one = {**defect, "centre": np.array(defect["centre"]) + shift}
        one |= {"length": defect["length"] * (1 if k == 0 else rng.uniform(0.4, 0.9))}
        one["angle"] += rng.uniform(-0.12, 0.12) * (k > 0)
        scored |= scratched(points, one, reach=0.02)
    return scored


def _cover(points, defect) -> np.ndarray:
    """How much a smear hides of what lies below, [N] from 0 to 1."""
    away, normal = points - np.array(defect["centre"]), np.array(defect["normal"])
    line, _ = face_axes(normal, defect["angle"], np.eye(3)[np.abs(normal).argmin()])
    along = away @ line
    rest = (away**2).sum(1) - along**2
    reach = np.sqrt((along / defect["stretch"]) ** 2 + rest) / defect["radius"]
    drawn_out = away - (1 - 1 / defect["stretch"]) * np.outer(along, line)
    edge = 0.3 * fractal_noise_3d(drawn_out, 12, defect["seed"], 4)
    return defect["strength"] * smoothstep((1 - reach - edge) / 0.15)
