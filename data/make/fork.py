"""A table fork of polished steel: curved, four tines, engraved handle, maker's mark; its defects.

It lies along x with its tines at x, z goes up from the side that food lies on. The ornament is on
that side of the handle, the mark on the back; seen along y it is a thin, curved line.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, ink_distance, marked_face, scratched, solid_with_parts, union
from .mesh import Mesh, both, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0004, "bent": 0.0008, "scratch": 0.0004, "stain": 0.0007}
SMALLEST_MASK |= {"dent": 0.0007}
LOW, HIGH, STEP = np.array([-1.05, -0.29, -0.22]), np.array([1.03, 0.29, 0.32]), 0.0055
# x, height of the middle, half width, half thickness
SHAPE = (
    (-1.02, -0.06, 0.160, 0.030),
    (-0.88, -0.02, 0.160, 0.032),
    (-0.50, 0.08, 0.118, 0.036),
    (-0.10, 0.13, 0.064, 0.046),
    (0.12, 0.125, 0.050, 0.050),
    (0.26, 0.075, 0.115, 0.042),
    (0.40, -0.005, 0.216, 0.034),
    (0.55, -0.060, 0.248, 0.031),
    (0.80, -0.045, 0.238, 0.029),
    (1.00, 0.075, 0.226, 0.022),
)
END = -0.86  # x of the middle of the handle's round end
DISH = 0.9  # how the palm and the tines are hollowed across
PITCH, ROOT, TIP = 0.122, 0.53, 0.985  # between tines; x of their roots and points
GAP, TAPER = 0.021, 0.036  # half width of the gaps at their roots, and how much wider at the tips
TINES = (-1.5, -0.5, 0.5, 1.5)  # places across, in pitches
FACE, FACE_X, PX = (0.50, 0.18), -0.52, 500  # of what is engraved: half sizes, middle, px a unit
ENGRAVED, STAMPED = 0.010, 0.008  # depths
STEEL, GROUND, PATINA = (0.62, 0.605, 0.58), (0.50, 0.49, 0.475), (0.10, 0.095, 0.085)
SCORED, TORN = (0.24, 0.235, 0.225), (0.40, 0.39, 0.37)
RUST, DARK_RUST, LIME = (0.30, 0.11, 0.03), (0.10, 0.04, 0.018), (0.62, 0.61, 0.58)
RUSTY, DRIED = range(2)  # sorts of stain; the third are the colours of heat
HEATED = (0.15, 0.55, 0.95)  # places of those from the middle outwards
TARNISH = np.array([(0.13, 0.17, 0.36), (0.33, 0.13, 0.18), (0.50, 0.32, 0.10)])


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, bent, scratch, stain, dent)."""
    side = int(rng.choice([-1, 1]))
    if kind in ("missing", "bent"):  # a tine, or its point
        tine = int(rng.integers(4))
        x = 0.84 if kind == "bent" else rng.uniform(0.74, 0.94)
        centre = _place(x, PITCH * TINES[tine])
        normal = (0.3, rng.uniform(-0.5, 0.5), side)
        sizes = {"tine": tine, "cut": x, "slant": rng.uniform(-0.7, 0.7)}
        if kind == "bent":
            up = rng.random() < 0.6
            sizes["up"] = side * rng.uniform(0.06, 0.14) if up else rng.uniform(-0.03, 0.03)
            outwards = 1 if tine > 1 else -1
            sizes["aside"] = outwards * rng.uniform(*((-0.03, 0.03) if up else (0.05, 0.11)))
            normal = (0.3, side, rng.uniform(-0.6, 0.6)) if up else normal
    elif kind == "scratch":
        centre, normal = _open_place(rng, side)
        sizes = {"length": rng.uniform(0.13, 0.32), "width": rng.uniform(0.009, 0.015)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":  # rust, dried water, colours of heat
        centre, normal = _open_place(rng, side)
        sizes = {"radius": rng.uniform(0.08, 0.18), "cover": rng.uniform(0.55, 0.95)}
        sizes["sort"] = rng.integers(3)
    elif kind == "dent":  # of the palm's or the handle's edge, or of their face
        centre, normal = _open_place(rng, side)
        sizes = {"radius": rng.uniform(0.06, 0.11), "depth": rng.uniform(0.022, 0.045)}
        if rng.random() < 0.4:
            x = rng.choice([rng.uniform(-0.9, -0.3), rng.uniform(0.30, 0.48)])
            centre, normal = _place(x, side * float(_shape(x)[1])), (0, side, 0.2)
    else:
        raise ValueError(f"the fork has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(x, y, side=0):
    """A point of the middle of the sheet, or of its upper (1) or lower (-1) surface, [3]."""
    level, _, thick = _shape(x)
    return np.array([x, y, float(level + _dished(x, y) + side * thick)])


def _open_place(rng, side):
    """A point of the palm or the handle and the normal there, [3] each."""
    x = rng.uniform(0.36, 0.50) if rng.random() < 0.5 else rng.uniform(-0.9, -0.05)
    y = 0.6 * float(_shape(x)[1]) * rng.uniform(-1, 1)
    rise = (_place(x + 0.01, y) - _place(x - 0.01, y))[2] / 0.02
    aside = (_place(x, y + 0.01) - _place(x, y - 0.01))[2] / 0.02
    return _place(x, y, side), side * unit(np.array([-rise, -aside, 1.0]))


@cache
def _table():
    """x [K], and height, half width and half thickness there, [3, K]."""
    from scipy.interpolate import CubicSpline, PchipInterpolator

    x, level, half, thick = np.array(SHAPE).T
    fine = np.linspace(x[0] - 0.1, x[-1] + 0.1, 1000)
    curves = CubicSpline(x, level), PchipInterpolator(x, half), PchipInterpolator(x, thick)
    return fine, np.array([curve(fine) for curve in curves], np.float32)


def _shape(x):
    """Height of the sheet's middle, half width and half thickness at x; each as x."""
    places, curves = _table()
    return [np.interp(x, places, curve).astype(np.float32) for curve in curves]


def _dished(x, y):
    return DISH * y * y * smoothstep((x - 0.2) / 0.25)


def _outline(x, y):
    """Distance-like value of the fork as seen from above."""
    half = _shape(x)[1]
    body = np.where(x < END, np.hypot(x - END, y) - half, np.abs(y) - half)
    beside = np.abs(np.abs(np.abs(y) - PITCH / 2) - PITCH / 2)  # from the nearest gap
    gap = GAP + TAPER * np.maximum(x - ROOT - 0.1, 0)
    reach = x - ROOT - GAP
    slot = np.where(reach > 0, beside - gap, np.hypot(reach, beside) - GAP)
    across = np.abs(np.abs(y) - PITCH) - PITCH / 2  # from the nearest tine
    point = 0.9 * (x - TIP + 13 * np.minimum(np.abs(across), 0.055) ** 2)
    return both(body, -slot, point)


def _sheet(x, y, z):
    """Distance-like value of the fork, nothing engraved, stamped or broken."""
    level, _, thick = _shape(x)
    off = 0.93 * np.abs(z - level - _dished(x, y))
    return -smooth_min(-_outline(x, y), thick - off, 0.028)


def _tine(x, y, tine):
    """Negative in the strip that a tine has for itself."""
    return both(np.abs(y - PITCH * TINES[int(tine)]) - PITCH / 2, ROOT - x)


def _torn(x, y, z, defect):
    """Distance-like value that is positive where a point broke off."""
    phase, beside = defect["seed"] % 7, y - PITCH * TINES[int(defect["tine"])]
    rough = 0.006 * np.sin(121 * y + phase) + 0.005 * np.sin(167 * z + 90 * y - phase)
    return x - defect["cut"] - defect["slant"] * beside + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like value of the only part, as x."""
    solid = _sheet(x, y, z)
    near = np.abs(solid) < 0.03
    cut = np.zeros_like(x)
    cut[near] = smoothstep(0.5 - _marks(x[near], y[near], z[near]) / 0.012)
    solid = solid + np.where(_above(x, y, z), ENGRAVED, STAMPED) * cut
    if defect and defect["kind"] in ("missing", "bent"):
        here = _tine(x, y, defect["tine"])
        if defect["kind"] == "missing":
            return (np.maximum(solid, -both(-_torn(x, y, z, defect), here)),)
        past = (np.maximum(x - ROOT - 0.05, 0) / (TIP - ROOT - 0.05)) ** 1.7
        y, z = y - defect["aside"] * past, z - defect["up"] * past
        bent = both(_sheet(x, y, z), _tine(x, y, defect["tine"]))
        return (np.minimum(np.maximum(solid, -here), bent),)
    return (solid,)


distance = union(parts)


def _above(x, y, z):
    return z > _shape(x)[0] + _dished(x, y)


def _marks(x, y, z):
    """Distance-like value of what is engraved above or stamped below, endless across the sheet."""
    above = _above(x, y, z)
    value = np.empty_like(x)
    for side, facing in ((1, above), (-1, ~above)):
        right, down = x[facing] - FACE_X, -side * y[facing]
        value[facing] = marked_face(_image(side), right, down, FACE, PX)
    return value


@cache
def _image(side: int) -> np.ndarray:
    """Distance to what is engraved (1) or stamped (-1), negative within, [rows, columns]."""
    canvas = Canvas(FACE, PX)
    if side < 0:
        canvas.write(-0.12, 0.0, 54, 255, "ARX", stroke=2)
        canvas.write(0.09, 0.0, 34, 255, "18/10")
        canvas.disc(-0.32, 0.0, 0.052, 255)
        canvas.disc(-0.32, 0.0, 0.038, 0)
        canvas.write(-0.32, 0.0, 30, 255, "K", stroke=2)
        canvas.write(0.28, 0.0, 24, 255, "JAPAN")
        return ink_distance(canvas.image, PX)
    u = np.linspace(-0.40, 0.47, 300)
    half = _shape(u + FACE_X)[1]
    for edge in (-1, 1):  # a line along the edge
        canvas.draw.line(canvas.px(*np.stack([u, edge * (half - 0.024)], 1).ravel()), 255, 6)
    wave, room = 2 * np.pi * (u + 0.22) / 0.20, 0.40 * (half - 0.02)
    vine = np.stack([u, room * np.sin(wave)], 1)[u > -0.22]
    canvas.draw.line(canvas.px(*vine.ravel()), 255, 6)
    for k in range(7):  # leaves on either side of it in turn
        right = -0.17 + 0.10 * k
        room = float(_shape(right + FACE_X)[1]) - 0.03
        down = 0.52 * room * (-1 if k % 2 == 0 else 1)
        canvas.disc(right, down, 0.25 * room + 0.014, 255, 0.16 * room + 0.006)
    for petal in range(8):  # a flower in the round end
        turn = petal * np.pi / 4
        canvas.disc(-0.335 + 0.062 * np.cos(turn), 0.062 * np.sin(turn), 0.019, 255)
    canvas.disc(-0.335, 0, 0.028, 255)
    return ink_distance(canvas.image, PX)


def mesh(defect: dict | None = None) -> Mesh:
    """The fork's surface with colour, metallic and roughness per vertex."""
    solid, points, _ = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = np.tile((*STEEL, 1, 0.15), (len(points), 1))  # colour, metallic, roughness
    solid.normals = unit(solid.normals)
    mottle, brushed = (fractal_noise_3d(points * k, 1, 2, 4) for k in (5, [3, 90, 90]))
    look[:, :3] *= (1 + 0.03 * mottle + 0.02 * brushed)[:, None]
    look[:, 4] += 0.02 * mottle + 0.02 * brushed
    between = (np.abs(solid.normals[:, 1]) > 0.6) & (x > ROOT - 0.03)
    look[between & (np.abs(y) < PITCH * 1.9)] = (*GROUND, 1, 0.36)
    on_face = np.abs(solid.normals[:, 2]) > 0.5
    deep = smoothstep((0.006 - _marks(x, y, z)) / 0.008)
    cover = (0.85 * np.clip(deep * on_face, 0, 1) * (1 + 0.08 * mottle).clip(0, 1))[:, None]
    look += cover * (np.array([*PATINA, 0.6, 0.5]) - look)
    if defect:
        _spoil(look, points, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, defect) -> None:
    """Put a defect's colours into `look` [N, 5]."""
    kind, (x, y, z) = defect["kind"], points.T
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
    if kind == "missing":
        broken = np.abs(_torn(x, y, z, defect)) < 0.006
        look[broken & (_tine(x, y, defect["tine"]) < 0)] = (*TORN, 0.8, 0.6)
    if kind == "scratch":
        look[scratched(points, defect, reach=0.03)] = (*SCORED, 0.6, 0.5)
    if kind == "stain":
        edge = away / defect["radius"] + 0.35 * fractal_noise_3d(points, 13, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.25)
        share = smoothstep(0.5 + 0.8 * fractal_noise_3d(points, 25, defect["seed"] + 1, 3))
        rust = np.outer(share, RUST) + np.outer(1 - share, DARK_RUST)
        if defect["sort"] == RUSTY:
            spilt = np.column_stack([rust, 0 * x, 0 * x + 0.85])
            cover = cover * smoothstep(0.9 + fractal_noise_3d(points, 30, defect["seed"] + 2, 3))
        elif defect["sort"] == DRIED:  # whiter where a drop's rim was
            spilt = np.tile([*LIME, 0, 0.6], (len(points), 1))
            cover = cover * (0.45 + 0.55 * smoothstep(1 - np.abs(edge - 0.8) / 0.25))
        else:
            hue = np.stack([np.interp(edge, HEATED, TARNISH[:, k]) for k in range(3)], 1)
            spilt = np.column_stack([hue, 0 * x + 1, 0 * x + 0.22])
        look += cover[:, None] * (spilt - look)
