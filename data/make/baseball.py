"""A baseball: two panels of white grained leather, red stitches along the seam, its defects.

The seam's narrow waists lie about z and -z and have a print each; between them are four lobes with
a signature, a number, a crest and small print.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, face_axes, inked_face, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.45}
SMALLEST_MASK = {"missing": 0.0008, "cut": 0.0008, "scratch": 0.001, "stain": 0.001}
SMALLEST_MASK |= {"misprint": 0.0009}
LOW, HIGH, STEP = np.full(3, -0.96), np.full(3, 0.96), 0.0085
RADIUS, SHELL = 0.85, 0.06  # within this of its radius the ball is more than a ball
LONG, SHORT = 0.685, 0.315  # of the two circles that the seam is made of, as shares of the radius
STITCHES, THREAD, RED_END = 108, 0.0175, 0.0125  # of one row; radii of the threads and a loose end
INNER, OUTER = (0.0, 0.012), (0.052, 0.088)  # ends of a stitch along and beside the seam
WELT, WELT_WIDE, GROOVE, GROOVE_WIDE = 0.012, 0.075, 0.022, 0.009  # relief of the seam
FAR = 0.25  # from the seam, of a radius of 1; what is beyond needs no measuring
PX = 420  # of the prints, a world unit
# direction of each print's middle, right, half sizes
D = 0.5**0.5
FACES = (((0, 0, 1), (D, -D, 0), (0.42, 0.24)), ((0, 0, -1), (D, D, 0), (0.42, 0.20)))
FACES += (((D, D, 0), (-D, D, 0), (0.36, 0.20)), ((-D, D, 0), (-D, -D, 0), (0.26, 0.26)))
FACES += (((-D, -D, 0), (D, -D, 0), (0.24, 0.24)), ((D, -D, 0), (D, D, 0), (0.30, 0.14)))
OFFICIAL, CORK, SIGNED, NUMBER, CREST, ORIGIN = range(len(FACES))
BLUE, CRIMSON, PEN = 1, 2, 3  # the inks' numbers
INKS = np.array([(0.035, 0.055, 0.22), (0.42, 0.035, 0.04), (0.03, 0.03, 0.05)])
LEATHER, STITCH, YARN = (0.73, 0.705, 0.645), (0.50, 0.025, 0.03), (0.40, 0.36, 0.29)
FLESH, SCUFFED = (0.46, 0.35, 0.24), (0.30, 0.27, 0.22)  # leather's inside; what rubbed it
GRASS, MUD, TAR, WATER = range(4)  # stains
# base colour, roughness of the stains
SPILT = ((0.14, 0.21, 0.04, 0.7), (0.22, 0.13, 0.065, 0.95), (0.03, 0.028, 0.025, 0.3))
SPILT += ((0.50, 0.41, 0.25, 0.5),)
LEFT_OUT, MOVED, SMEARED = range(3)  # kinds of misprint
BALL, THREADS = range(2)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, cut, scratch, stain, misprint)."""
    if kind == "missing":  # stitches gone; the seam may gape, a thread's end may stand off
        first = int(rng.integers(STITCHES))
        count = int(rng.integers(2, 6))
        middle = (first + (count - 1) / 2 + 0.3) / STITCHES
        normal = _seam()[0][int(middle * len(_seam()[0])) % len(_seam()[0])]
        sizes = {"first": first, "count": count, "gape": rng.choice([0, rng.uniform(0.4, 1)])}
        sizes |= {"side": rng.choice([-1, 0, 1]), "loose": rng.random() < 0.6}
        sizes |= {"reach": rng.uniform(0.10, 0.22), "curl": rng.uniform(-1, 1)}
    elif kind == "cut":  # a slit through the leather, its lips lifted
        normal = _place(rng)
        sizes = {"length": rng.uniform(0.09, 0.20), "width": rng.uniform(0.014, 0.034)}
        sizes |= {"angle": rng.uniform(0, np.pi), "lift": rng.uniform(0.012, 0.034)}
    elif kind == "scratch":  # one deep line, or a patch scuffed on the ground
        normal = _place(rng)
        sizes = {"scuffed": rng.random() < 0.5, "angle": rng.uniform(0, np.pi)}
        sizes |= {"length": rng.uniform(0.13, 0.27), "width": rng.uniform(0.011, 0.020)}
        sizes["cover"] = rng.uniform(0.6, 1)
    elif kind == "stain":  # of grass, mud, tar, water
        normal = unit(rng.standard_normal(3))
        sizes = {"of": rng.integers(4), "radius": rng.uniform(0.07, 0.17)}
        sizes |= {"cover": rng.uniform(0.5, 0.95), "angle": rng.uniform(0, np.pi)}
    elif kind == "misprint":  # a part of a print left out, moved or smeared
        face = int(rng.choice(len(FACES), p=(0.35, 0.25, 0.13, 0.11, 0.09, 0.07)))
        ahead, right, half = (np.array(v) for v in FACES[face])
        off = rng.uniform(-0.5, 0.5, 2) * half
        normal = unit(RADIUS * ahead + off[0] * right + off[1] * np.cross(right, ahead))
        way = int(rng.integers(3))
        sizes = {"face": face, "way": way, "smeared": way == SMEARED}
        sizes["radius"] = rng.uniform(0.10, 0.19)
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.012, 0.035)
    else:
        raise ValueError(f"the baseball has no defect {kind!r}")
    return described(kind, RADIUS * normal, normal, int(rng.integers(1 << 30)), sizes)


def _place(rng):
    """A direction in which there is leather, away from the seam, [3]."""
    while True:
        ahead = unit(rng.standard_normal(3))
        if abs(beside_seam(ahead[None])[1][0]) > 0.17:
            return ahead


@cache
def _seam():
    """Places evenly spaced on the seam of a ball of radius 1, tangents, [K, 3] each; its length."""

    def curve(t):
        x, y = (LONG * f(t) + s * SHORT * f(3 * t) for f, s in ((np.cos, 1), (np.sin, -1)))
        return np.stack([x, y, 2 * np.sqrt(LONG * SHORT) * np.sin(2 * t)], 1)

    t = np.linspace(0, 2 * np.pi, 40001)
    far = np.cumsum([0, *np.linalg.norm(np.diff(curve(t), axis=0), axis=1)])
    places = curve(np.interp(np.linspace(0, far[-1], 3240, endpoint=False), far, t))
    return places, unit(np.roll(places, -1, 0) - np.roll(places, 1, 0)), far[-1]


@cache
def _tree():
    from scipy.spatial import cKDTree

    return cKDTree(_seam()[0])


def beside_seam(ahead):
    """Places along (in stitches) and beside the seam of directions [N, 3]; 0, FAR far off it."""
    places, tangents, length = _seam()
    nearest = _tree().query(ahead, distance_upper_bound=FAR)[1]
    met = nearest < len(places)
    along, beside = np.zeros(len(ahead)), np.full(len(ahead), FAR)
    place, tangent = places[nearest[met]], tangents[nearest[met]]
    off = ahead[met] - place
    along[met] = nearest[met] / len(places) + (off * tangent).sum(1) / length
    beside[met] = (off * np.cross(place, tangent)).sum(1)
    return STITCHES * along, RADIUS * beside


def _torn(turn, beside, defect):
    """Which stitches are lost: by their numbers [N] and the side of the seam."""
    lost = (turn - defect["first"]) % STITCHES < defect["count"]
    return lost & (defect["side"] * beside >= 0)


@cache
def _loose(first, reach, curl, side):
    """Tree of places along a thread that stands off where stitches are gone."""
    from scipy.spatial import cKDTree

    places, tangents, _ = _seam()
    at = int((first + 0.3) / STITCHES * len(places)) % len(places)
    out, ahead = places[at], tangents[at]
    aside = np.cross(out, ahead) * (side or 1)
    share = np.linspace(0, 1, 60)[:, None]
    up = 0.075 * np.sin(2.2 * share) - 0.01
    way = reach * (share * (aside + 0.6 * ahead) + curl * share**2 * ahead)
    return cKDTree(RADIUS * out + up * out + way)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of the leather ball and of its threads, as x."""
    reach = np.sqrt(x * x + y * y + z * z)
    ball, threads = reach - RADIUS, np.maximum(reach - RADIUS, 0) + SHELL
    near = np.abs(ball) < SHELL
    points = np.stack([x[near], y[near], z[near]], -1)
    high = ball[near]
    along, beside = beside_seam(points / reach[near, None])
    off = np.abs(beside)
    relief = WELT * np.exp(-((off / WELT_WIDE) ** 2)) - GROOVE * np.exp(-((off / GROOVE_WIDE) ** 2))
    kind = defect["kind"] if defect else None
    pitch = RADIUS * _seam()[2] / STITCHES
    (start, low), (end, far) = INNER, OUTER
    lean = (end - start) / (far - low)
    turn = np.round(along - (start + lean * (off.clip(low, far) - low)) / pitch)
    behind = pitch * (along - turn)
    share = (behind - start) * (end - start) + (off - low) * (far - low)
    share = (share / ((end - start) ** 2 + (far - low) ** 2)).clip(0, 1)
    lift = WELT * np.exp(-((off / WELT_WIDE) ** 2)) + 0.002 - 0.013 * share**4
    aside = np.hypot(behind - start - share * (end - start), off - low - share * (far - low))
    thread = np.hypot(aside, high - lift) - THREAD
    hole = np.hypot(behind - end, off - far) - 0.014
    relief = relief - 0.018 * smoothstep(0.5 - hole / 0.012)
    if kind == "missing":
        lost = _torn(turn, beside, defect)
        thread[lost] = SHELL
        middle = defect["first"] + (defect["count"] - 1) / 2 + 0.3
        away = (along - middle + STITCHES / 2) % STITCHES - STITCHES / 2
        open_ = (1 - (away / (0.5 * defect["count"] + 0.8)) ** 2).clip(0) * defect["gape"]
        relief += 0.022 * open_ * np.exp(-((off / 0.06) ** 2))
        relief -= 0.07 * smoothstep((0.034 * open_ - off) / 0.012 + 0.5) * (open_ > 0)
    if kind == "cut":
        across, open_ = _slit(points, defect)
        relief += defect["lift"] * open_ * np.exp(-((across / 0.045) ** 2))
        gap = both(0.8 * (across - defect["width"] * open_), -high - 0.045)
        high = np.maximum(high - relief, -gap)
    else:
        high = high - relief
    ball[near], threads[near] = 0.8 * high, 0.9 * thread
    if kind == "missing" and defect["loose"]:
        tree = _loose(*(defect[name] for name in ("first", "reach", "curl", "side")))
        there = sum((v - c) ** 2 for v, c in zip((x, y, z), defect["centre"], strict=True)) < 0.2
        points = np.stack([x[there], y[there], z[there]], -1)
        threads[there] = np.minimum(threads[there], tree.query(points)[0] - RED_END)
    return ball, threads


distance = union(parts)


def _slit(points, defect):
    """Distance [N] of points [N, 3] from a slit's line, and how far it is open there, 0..1."""
    away = points - np.array(defect["centre"])
    along, across = (away @ v for v in face_axes(np.array(defect["normal"]), defect["angle"]))
    across = across + 0.012 * np.sin(13 * along + defect["seed"] % 7)
    there = away @ np.array(defect["normal"]) > -0.2
    return np.abs(across), (1 - (along / defect["length"]) ** 2).clip(0) * there


def mesh(defect: dict | None = None) -> Mesh:
    """The ball's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    reach = np.linalg.norm(points, axis=1)
    along, beside = beside_seam(points / reach[:, None])
    look = np.tile((*LEATHER, 0, 0.48), (len(points), 1))  # colour, metallic, roughness
    mottle, grain = fractal_noise_3d(points, 3, 2, 4), fractal_noise_3d(points, 34, 3, 3)
    crease = smoothstep(1 - np.abs(fractal_noise_3d(points, 26, 7, 2)) / 0.35)
    look[:, :3] *= (1 + 0.025 * mottle + 0.02 * grain - 0.10 * crease)[:, None]
    look[:, 4] += 0.05 * mottle + 0.08 * crease
    soiled = smoothstep((0.11 - np.abs(beside)) / 0.09)[:, None]
    look[:, :3] *= 1 - soiled * [0.06, 0.09, 0.13]
    look[(np.abs(beside) < 0.006), :3] *= 0.55
    rough = np.stack([fractal_noise_3d(points, 26, seed, 2) for seed in (4, 5, 6)], 1)
    solid.normals = unit(solid.normals)
    cord = part == THREADS
    solid.normals[~cord] += 0.045 * rough[~cord]
    ink = inked(points, defect) * ~cord
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1] * (1 + 0.10 * grain[ink > 0, None])
    look[ink > 0, 4] = 0.5
    ply = np.sin(2 * np.pi * (along + beside / 0.018))
    look[cord] = (*STITCH, 0, 0.75)
    look[cord, :3] *= (1 + 0.16 * ply + 0.08 * grain)[cord, None]
    if defect:
        _spoil(look, points, reach, cord, grain, defect)
    return solid.painted(look)


def _spoil(look, points, reach, cord, grain, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `cord` tells which points the threads have."""
    kind, seed = defect["kind"], defect["seed"]
    away, normal = points - np.array(defect["centre"]), np.array(defect["normal"])
    if kind in ("missing", "cut"):
        deep = ~cord & (reach < RADIUS - (0.012 if kind == "missing" else 0.004))
        if kind == "missing":
            along, beside = beside_seam(points / reach[:, None])
            deep &= _torn(along, beside, defect | {"side": 0}) & (np.abs(beside) < 0.06)
        else:
            across, open_ = _slit(points, defect)
            deep &= (open_ > 0) & (across < defect["width"] + 0.01)
        flesh = smoothstep((reach - RADIUS + 0.035) / 0.01)[deep, None]
        wound = np.array(YARN) * (1 + 0.25 * np.sin(210 * away[deep] @ [0.5, 0.6, 0.6]))[:, None]
        look[deep, :3] = flesh * FLESH + (1 - flesh) * wound
        look[deep, 4] = 0.95
        return
    if kind == "misprint":
        return
    along, across = (away @ v for v in face_axes(normal, defect["angle"]))
    near = away @ normal > -0.25
    if kind == "scratch" and defect["scuffed"]:
        streaks = np.stack([9 * along, 75 * across, 0 * along], 1)
        streak = smoothstep(0.45 + fractal_noise_3d(streaks, 1, seed, 3))
        off = np.hypot(along / defect["length"], across / (0.5 * defect["length"]))
        cover = streak * smoothstep((1 - off + 0.15 * grain) / 0.3)
        colour, roughness = SCUFFED, 0.9
    elif kind == "scratch":
        cover = scratched(points, defect, reach=0.08) * (1 + 0.1 * grain)
        colour, roughness = FLESH, 0.9
    else:
        *colour, roughness = SPILT[int(defect["of"])]
        off = np.hypot(along / 1.3, across / 0.8) / defect["radius"]
        off = off + 0.22 * fractal_noise_3d(points, 9, seed, 3)
        cover = smoothstep((1 - off) / (0.12 if defect["of"] >= TAR else 0.35))
        if defect["of"] == GRASS:  # smeared along
            streaks = np.stack([8 * along, 45 * across, 0 * along], 1)
            cover = cover * smoothstep(0.75 + 0.7 * fractal_noise_3d(streaks, 1, seed + 1, 3))
        elif defect["of"] == MUD:
            cover = cover * smoothstep(0.95 + 0.7 * fractal_noise_3d(points, 33, seed + 1, 3))
        elif defect["of"] == WATER:  # darker where the drop's rim was
            cover = cover * (0.5 + 0.5 * smoothstep(1 - np.abs(off - 0.82) / 0.2))
    cover = (defect["cover"] * cover.clip(0, 1) * near)[:, None]
    look += cover * (np.array([*colour, 0, roughness]) - look)


def inked(points, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of the ball: 0 or 1 + index in INKS, [N]."""
    ink = np.zeros(len(points), int)
    for face, (ahead, right, half) in enumerate(FACES):
        ahead, right = np.array(ahead), np.array(right)
        axes = np.stack([right, np.cross(right, ahead)])
        where = points @ ahead > 0.5 * RADIUS
        mine = bool(defect) and defect["kind"] == "misprint" and defect["face"] == face

        def printed(places, half=half, face=face):
            return picked(_image(face), *((places + np.array(half)) * PX).T)

        moved = defect if mine and defect["way"] != LEFT_OUT else None
        ink[where] = np.maximum(ink[where], inked_face(printed, points[where], axes, moved))
        if mine and moved is None:
            away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
            ink[where & (away + 0.12 * fractal_noise_3d(points, 14, defect["seed"], 3) < 0.9)] = 0
    return ink


@cache
def _image(face: int) -> np.ndarray:
    """What is printed on a face, bare at the edges, [rows, columns]."""
    canvas = Canvas(FACES[face][2], PX)
    if face == OFFICIAL:
        canvas.write(0, -0.115, 30, BLUE, "OFFICIAL LEAGUE")
        canvas.write(0, 0, 74, BLUE, "VARRO", stroke=2)
        canvas.rectangle(-0.26, 0.088, 0.26, 0.098, CRIMSON)
        canvas.write(0, 0.145, 28, CRIMSON, "No. 90  TAN")
    elif face == CORK:
        canvas.write(0, -0.085, 27, BLUE, "CUSHIONED CORK")
        canvas.write(0, 0.0, 27, BLUE, "CENTER")
        canvas.write(0, 0.09, 32, CRIMSON, "9 in   5 oz")
    elif face == SIGNED:  # a name by hand and a line below
        t = np.linspace(0, 1, 400)
        loops = 0.055 * (1.1 - t) * np.sin(46 * t + 1) + 0.03 * np.sin(13 * t)
        right = -0.29 + 0.52 * t + 0.034 * np.cos(46 * t + 1)
        canvas.draw.line(canvas.px(*np.stack([right, loops - 0.03], 1).ravel()), PEN, 5)
        under = np.stack([0.28 - 0.5 * t, 0.07 + 0.05 * t * np.sin(5 * t)], 1)
        canvas.draw.line(canvas.px(*under.ravel()), PEN, 4)
    elif face == NUMBER:
        canvas.write(0, -0.04, 110, CRIMSON, "27", stroke=2)
        canvas.write(0, 0.16, 30, BLUE, "HOME")
    elif face == CREST:
        for radius, ink in ((0.18, BLUE), (0.162, 0), (0.145, BLUE), (0.135, 0)):
            canvas.disc(0, 0, radius, ink)
        points = [
            (r * np.sin(k * np.pi / 5), -r * np.cos(k * np.pi / 5))
            for k, r in enumerate((0.12, 0.05) * 5)
        ]
        canvas.draw.polygon(canvas.px(*np.ravel(points)), CRIMSON)
    else:
        canvas.write(0, -0.04, 28, BLUE, "HAND SEWN")
        canvas.write(0, 0.045, 24, BLUE, "lot 4-26")
    return canvas.inks()
