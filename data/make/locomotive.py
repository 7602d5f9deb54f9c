"""A painted wooden toy locomotive: glossy and matt paint, bare beech with its grain; its defects.

It drives along x. Both sides look much alike: a name on the boiler's left, a plate's text, a stamp
burnt into the frame and the wheels' holes tell them apart.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .knight import grain
from .lathe import from_outline, smooth_outline
from .lights import smoothstep
from .marks import described, first_met, inked_face, picked
from .mesh import Mesh, both, box, cylinder, mesh_from_distance, rod, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0011, "chip": 0.0011, "crack": 0.0008, "stain": 0.0015}
SMALLEST_MASK |= {"misprint": 0.0015}
LOW, HIGH, STEP = np.array([-1.08, -0.50, -0.69]), np.array([1.06, 0.50, 0.68]), 0.008
PARTS = range(12)
FRAME, BOILER, SMOKEBOX, DOOR, CAB, ROOF, CHIMNEY, DOME, WHEEL, PIN, TRIM, METAL = PARTS
BEECH, DARK_BEECH = (0.60, 0.40, 0.215), (0.36, 0.185, 0.08)
TEAL, BLACK, RED, YELLOW = (
    (0.01, 0.19, 0.22),
    (0.03, 0.03, 0.032),
    (0.50, 0.014, 0.016),
    (0.74, 0.41, 0.03),
)
CREAM, STEEL = (0.78, 0.74, 0.62), (0.62, 0.61, 0.59)
GLOSSY, MATT, SANDED = 0.13, 0.62, 0.5  # roughness
# colour, metallic, roughness of the parts in their order
LOOKS = np.array(
    [(*BEECH, 0, SANDED), (*TEAL, 0, GLOSSY), (*BLACK, 0, MATT), (*RED, 0, GLOSSY)]
    + [(*YELLOW, 0, MATT), (*RED, 0, GLOSSY), (*BLACK, 0, MATT), (*BEECH, 0, 0.3)]
    + [(*RED, 0, GLOSSY), (*BEECH, 0, SANDED), (*CREAM, 0, MATT), (*STEEL, 1, 0.22)]
)
BARE = FRAME, DOME, PIN
AXIS, BARREL = -0.03, 0.265  # of the boiler: height, radius
WHEELS = ((-0.52, -0.40, 0.25), (0.12, -0.48, 0.17), (0.56, -0.48, 0.17))  # x, z, radius
TREAD = (0.355, 0.055)  # |y| of a wheel's middle, half its width
FUNNEL = ((0.10, 0.105), (0.30, 0.085), (0.45, 0.092), (0.56, 0.145), (0.64, 0.15))  # z, radius
FUNNEL_X, DOME_X, BANDS = 0.66, 0.13, (-0.06, 0.36)
CAB_X = -0.575
# printed faces: right and down as they are seen, half sizes of the picture
SIDE = (1.0, 0.5)
FACES = (
    ((-1, 0, 0), (0, 0, -1), SIDE),
    ((1, 0, 0), (0, 0, -1), SIDE),
    ((0, 1, 0), (0, 0, -1), (0.3, 0.3)),
    ((0, 1, 0), (1, 0, 0), (0.3, 1.0)),
)
LEFT, RIGHT, FRONT, UNDERSIDE = range(4)
PX = 400
INKS = np.array([CREAM, (0.02, 0.02, 0.022), (0.70, 0.42, 0.03), (0.09, 0.042, 0.02), RED])
PALE, DARK, GOLD, BURNT, BRIGHT = 1, 2, 3, 4, 5
# what may be missing: part, place, how far it reaches, where it is seen from
LOST = [(WHEEL, (x, s * TREAD[0], z), r + 0.02, (0, s, 0)) for x, z, r in WHEELS for s in (-1, 1)]
LOST += [(PIN, (x, s * 0.43, z), 0.09, (0, s, 0)) for x, z, _ in WHEELS for s in (-1, 1)]
LOST += [(TRIM, (0.95, s * 0.17, -0.33), 0.12, (1, 0.3 * s, 0)) for s in (-1, 1)]
LOST += [(CHIMNEY, (FUNNEL_X, 0, 0.43), 0.30, (0.3, 0, 0.5))]
LOST += [(DOME, (DOME_X, 0, 0.30), 0.18, (0, 0, 1)), (TRIM, (0.84, 0, 0.29), 0.12, (1, 0, 0.7))]
LOST += [(METAL, (0.94, 0, -0.33), 0.12, (1, 0, 0)), (METAL, (-1.0, 0, -0.33), 0.14, (-1, 0, 0.5))]
PAINT, GLUE, SOOT = range(3)  # sorts of stain
SPLASHES = np.array(
    [(0.80, 0.78, 0.74), (0.02, 0.10, 0.36), (0.05, 0.28, 0.06), (0.02, 0.02, 0.02)]
)
DRIED, GRIME, SPLIT = (0.52, 0.36, 0.14), (0.03, 0.024, 0.018), (0.10, 0.055, 0.028)
LEFT_OUT, MOVED, SMEARED = range(3)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, chip, crack, stain, misprint)."""
    if kind == "missing":
        wheels = 4 * len(WHEELS)  # with their pins, the first
        which = int(rng.integers(*((0, wheels) if rng.random() < 0.45 else (wheels, len(LOST)))))
        _, centre, _, normal = LOST[which]
        sizes = {"which": which}
    elif kind == "chip":  # paint flaked off, or wood out of an edge
        broken = rng.random() < 0.45
        sizes = {"broken": broken, "radius": rng.uniform(0.045, 0.12)}
        if broken:
            centre, normal = _edge(rng)
            sizes["radius"] = rng.uniform(0.05, 0.085)
        else:
            _, centre, normal = _place(rng, (BOILER, SMOKEBOX, DOOR, CAB, ROOF, CHIMNEY))
    elif kind == "crack":  # along the fibres
        _, centre, normal = _place(rng, (FRAME, BOILER, CAB, ROOF), sides_only=True)
        sizes = {"length": rng.uniform(0.12, 0.28), "width": rng.uniform(0.007, 0.012)}
        sizes |= {"lean": rng.uniform(-0.10, 0.10), "deep": rng.uniform(0.03, 0.06)}
    elif kind == "stain":
        part, centre, normal = _place(rng, PARTS)
        sort = int(rng.choice([PAINT, GLUE])) if part in (SMOKEBOX, CHIMNEY) else rng.integers(3)
        sizes = {"sort": sort, "radius": rng.uniform(0.06, 0.12), "cover": rng.uniform(0.65, 0.97)}
        dark = part in (SMOKEBOX, CHIMNEY, BOILER)
        sizes["colour"] = 0 if dark else rng.integers(1, len(SPLASHES))
    elif kind == "misprint":
        face, form = int(rng.choice([LEFT, LEFT, RIGHT, FRONT])), int(rng.integers(3))
        side = -1 if face == RIGHT else 1
        centre, normal, radius = (CAB_X, 0.31 * side, -0.09), (0, side, 0), 0.19
        if face == LEFT and rng.random() < 0.5:
            centre = (0.15, 0.265, AXIS)
        if face == FRONT:
            centre, normal, radius = (0.86, 0, AXIS), (1, 0, 0), 0.17
        if form == LEFT_OUT:
            radius *= rng.uniform(0.35, 0.8)
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.09)
        sizes = {"face": face, "form": form, "smeared": form == SMEARED, "radius": radius}
        sizes |= {"across": far * np.cos(turn), "down": 0.7 * far * np.sin(turn)}
    else:
        raise ValueError(f"the locomotive has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(rng, of, sides_only=False):
    """The part, a point of it and the normal there, of one of the parts `of`."""
    while True:
        axis = rng.choice(3, p=(0.0, 0.6, 0.4) if sides_only else (0.2, 0.5, 0.3))
        way = np.tile(rng.uniform((-0.95, -0.40, -0.60), (0.92, 0.40, 0.60)), (551, 1))
        way[:, axis] = np.linspace(1.1, -1.1, 551) * (1 if axis == 2 else rng.choice([-1, 1]))
        met = first_met(way, parts, distance)
        if met is not None and met[0] in of and abs(met[2][axis]) > 0.6:
            return met


def _edge(rng):
    """A point of an edge that wood may break out of, and where it is seen from, each [3]."""
    side, form = rng.choice([-1, 1]), rng.integers(5)
    if form == 0:  # of the roof
        end = rng.choice([-1, 1])
        x = CAB_X + 0.42 * end if rng.random() < 0.5 else CAB_X + rng.uniform(-0.4, 0.4)
        return (x, side * 0.37, 0.42), (end * (abs(x - CAB_X) > 0.4), side, 0.8)
    if form == 1:  # of the frame
        x = rng.choice([rng.uniform(-0.9, -0.80), rng.uniform(-0.2, -0.1), 0.88])
        return (x, side * 0.28, -0.27), (0.3 * np.sign(x), side, 0.3)
    if form == 2:  # of the cab
        return (CAB_X - 0.325, side * 0.31, rng.uniform(-0.2, 0.38)), (-1, side, 0)
    turn = rng.uniform(-np.pi, np.pi)
    out = np.array([np.cos(turn), np.sin(turn)])
    if form == 3:  # of the chimney
        centre = 0.145 * out + [FUNNEL_X, 0]
        return (*centre, 0.635), (*out, 0.8)
    x, z, radius = WHEELS[rng.integers(3)]
    out[1] = -abs(out[1])
    centre = radius * out
    return (x + centre[0], side * 0.40, z + centre[1]), (0.6 * out[0], side, 0.6 * out[1])


@cache
def _funnel():
    return smooth_outline(FUNNEL, 200)


def _wheels(x, y, z):
    """Distance-like values of wheels and of their pins."""
    across, wheels, pins = np.abs(y), [], []
    for k, (middle, level, radius) in enumerate(WHEELS):
        along, up = x - middle, z - level
        reach = cylinder(along, up, 0)
        wheel = box(reach, across - TREAD[0], 0 * x, (radius, TREAD[1], 1), 0.022)
        dish = both(np.abs(reach - 0.58 * radius) - 0.24 * radius, 0.39 - across)
        turn = np.arctan2(up, along) + 0.4 + k + 0.5 * (y > 0)
        step = 2 * np.pi / (6 if k == 0 else 4)
        turn = turn - step * np.round(turn / step)
        hole = cylinder(reach * np.cos(turn) - 0.58 * radius, reach * np.sin(turn), 0.17 * radius)
        wheels.append(both(wheel, -dish, -hole))
        head = box(reach, across - 0.43, 0 * x, (0.058, 0.032, 1), 0.022)
        pins.append(np.minimum(head, both(reach - 0.03, across - 0.43, 0.1 - across)))
    return np.minimum.reduce(wheels), np.minimum.reduce(pins)


def _trim(x, y, z):
    """Distance-like values of rods, lamp and buffers, and of magnet and screw eye."""
    across, barrel = np.abs(y), cylinder(y, z - AXIS, 0)
    (low, level, _), (high, _, _) = WHEELS[1:]
    along = x - np.clip(x, low, high)
    coupling = box(cylinder(along, z - level, 0), across - 0.418, 0 * x, (0.045, 0.012, 1), 0.006)
    lamp = rod(y, z - 0.29, x, 0.075, 0.74, 0.87, 0.02)
    buffer = np.minimum(
        rod(across - 0.17, z + 0.33, x, 0.035, 0.85, 0.95, 0.01),
        rod(across - 0.17, z + 0.33, x, 0.075, 0.95, 1.0, 0.02),
    )
    trim = np.minimum.reduce([coupling, lamp, buffer])
    magnet = rod(y, z + 0.33, x, 0.06, 0.85, 0.965, 0.008)
    ring = np.hypot(np.hypot(x + 1.0, z + 0.33) - 0.05, y) - 0.016
    shank = rod(y, z + 0.33, x, 0.016, -0.97, -0.88, 0.004)
    return trim, np.minimum.reduce([magnet, ring, shank]), barrel


def _cab(x, y, z):
    """Distance-like value of the hollow cab: side windows, two round ones, an open back."""
    along, across = x - CAB_X, np.abs(y)
    cab = box(along, y, z - 0.075, (0.325, 0.31, 0.345), 0.025)
    inside = box(along, y, z - 0.10, (0.255, 0.245, 0.28), 0.02)
    window = smooth_min(
        box(along, 0 * x, z - 0.17, (0.16, 1, 0.07), 0.02), cylinder(along, z - 0.17, 0.16), 0.01
    )
    window = both(window, 0.09 - z, 0.2 - across)
    port = both(cylinder(across - 0.17, z - 0.325, 0.055), -along)
    back = both(box(0 * x, y, z - 0.07, (1, 0.15, 0.24), 0.03), along)
    return both(cab, -inside, -window, -port, -back)


def _whole(x, y, z):
    """Distance-like values of the parts, none broken or missing."""
    trim, metal, barrel = _trim(x, y, z)
    wheels, pins = np.full((2, *np.shape(x)), 0.1)
    below = (z < -0.08) & (np.abs(y) > 0.05)
    wheels[below], pins[below] = _wheels(x[below], y[below], z[below])
    frame = np.minimum(
        box(x + 0.02, y, z + 0.33, (0.90, 0.28, 0.065), 0.02),
        box(x - 0.02, y, z + 0.46, (0.74, 0.22, 0.10), 0.02),
    )
    groove = np.minimum.reduce([np.hypot(x - at, barrel - BARREL) for at in BANDS])
    boiler = both(barrel - BARREL, np.abs(x - 0.11) - 0.39)
    boiler = np.maximum(boiler, 0.012 - groove)
    smokebox = -smooth_min(0.285 - barrel, 0.17 - np.abs(x - 0.66), 0.03)
    door = rod(y, z - AXIS, x, 0.21, 0.80, 0.86, 0.03)
    bent = z - 0.465 + 0.45 * y * y
    roof = 0.95 * box(x - CAB_X, y, bent, (0.42, 0.38, 0.045), 0.025)
    reach = cylinder(x - FUNNEL_X, y, 0)
    chimney = both(from_outline(_funnel(), reach, z), z - 0.64, 0.15 - z)
    chimney = np.maximum(chimney, -both(reach - 0.09, 0.48 - z))
    dome = np.hypot(cylinder(x - DOME_X, y, 0), z - np.clip(z, 0.1, 0.28)) - 0.11
    collar = rod(x - DOME_X, y, z, 0.135, 0.1, 0.245, 0.012)
    dome = np.minimum(dome, collar)
    cab, rear = np.full_like(x, 0.1), x < -0.15
    cab[rear] = _cab(x[rear], y[rear], z[rear])
    return frame, boiler, smokebox, door, cab, roof, chimney, dome, wheels, pins, trim, metal


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of the parts, each as x."""
    values = list(_whole(x, y, z))
    kind = defect["kind"] if defect else None
    if kind == "missing":
        part, centre, reach, _ = LOST[int(defect["which"])]
        gone = _reach(x, y, z, centre) < reach
        if part == WHEEL:  # its pin leaves a hole
            bored = np.maximum(values[FRAME], -values[PIN])
            values[FRAME] = np.where(gone, bored, values[FRAME])
        for lost in (part, PIN) if part == WHEEL else (part,):
            values[lost] = np.where(gone, np.maximum(values[lost], 0.03), values[lost])
    if kind == "crack":
        values = [np.maximum(value, -_cracked(x, y, z, defect)) for value in values]
    if kind == "chip" and defect["broken"]:
        values = [np.maximum(value, -_broken_off(x, y, z, defect)) for value in values]
    return tuple(values)


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the whole, negative inside; arrays of one shape, world units."""
    return np.minimum.reduce(parts(x, y, z, defect))


def _reach(x, y, z, centre):
    return np.sqrt(sum((v - c) ** 2 for v, c in zip((x, y, z), centre, strict=True)))


def _broken_off(x, y, z, defect):
    """Distance-like value of a lump that is missing, splintered along the fibres."""
    phase = defect["seed"] % 7
    along, *rest = (v - c for v, c in zip((x, y, z), defect["centre"], strict=True))
    rough = 0.008 * np.sin(83 * y + phase) * np.sin(71 * z - phase) + 0.004 * np.sin(150 * (y + z))
    return np.sqrt((along / 1.4) ** 2 + sum(v * v for v in rest)) - defect["radius"] + rough


def _cracked(x, y, z, defect):
    """Distance-like value of a crack's gap, along x."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    normal, phase = np.array(defect["normal"]), defect["seed"] % 7
    aside = unit(np.cross(normal, (1, 0, 0)))
    across = sum(v * a for v, a in zip(away, aside, strict=True)) + defect["lean"] * away[0]
    across = across + 0.007 * np.sin(23 * away[0] + phase) + 0.003 * np.sin(61 * away[0] - phase)
    deep = sum(v * n for v, n in zip(away, normal, strict=True))
    share = (1 - (away[0] / defect["length"]) ** 2).clip(0)
    gap = np.abs(across) - defect["width"] * np.sqrt(share)
    return both(gap, np.abs(away[0]) - defect["length"], -defect["deep"] - deep, deep - 0.05)


def mesh(defect: dict | None = None) -> Mesh:
    """The locomotive's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points, solid.normals = solid.vertices, unit(solid.normals)
    x, y, z = points.T
    part = np.abs(parts(x, y, z, defect)).argmin(0)
    wood, pores = _wooden(points, part)
    mottle = fractal_noise_3d(points, 6, 2, 3)
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    rolled = np.abs(cylinder(y, z - AXIS, BARREL)) < 0.016
    band = np.minimum.reduce([np.abs(x - at) for at in BANDS]) < 0.022
    look[(part == BOILER) & rolled & band, :3] = YELLOW
    look[(part == CHIMNEY) & (z > 0.585)] = (*RED, 0, GLOSSY)
    matt = look[:, 4] > 0.4
    look[:, :3] *= (1 + 0.03 * mottle - 0.10 * pores * matt)[:, None]
    look[:, 4] += 0.02 * mottle + 0.03 * pores
    bare = np.isin(part, BARE) | _unpainted(x, y, z, part)
    look[bare] = wood[bare]
    _print_on(look, points, part, solid.normals, defect)
    if defect:
        _spoil(look, points, part, wood, defect)
    return solid.painted(look, least_roughness=0.1)


def _unpainted(x, y, z, part):
    """Which points of painted parts are bare: treads, insides of the cab and under the roof."""
    reach = np.minimum.reduce([cylinder(x - a, z - b, 0) / r for a, b, r in WHEELS])
    tread = (part == WHEEL) & (reach > 0.84)
    inside = (np.abs(x - CAB_X) < 0.30) & (np.abs(y) < 0.28) & (z < 0.43)
    return tread | ((part == CAB) & inside) | ((part == ROOF) & inside)


def _wooden(points, part):
    """Colour, metallic and roughness [N, 5] of bare beech, and its pores [N]."""
    upright, turned = np.isin(part, (CHIMNEY, DOME)), part == PIN
    fibres = points[:, [1, 2, 0]] + [0.21, 0.16, 0]
    fibres[upright], fibres[turned] = points[upright], points[turned][:, [0, 2, 1]]
    late, pores, slow = grain(fibres * (1.8, 1.8, 0.6))
    colour = np.array(BEECH) + 0.85 * late[:, None] * (np.array(DARK_BEECH) - BEECH)
    colour = colour * (1 - 0.30 * pores + 0.06 * slow)[:, None]
    colour = colour * np.where(part == PIN, 0.75, 1)[:, None]
    rough = LOOKS[part, 4].clip(0.3, SANDED) + 0.05 * pores
    return np.column_stack([colour, 0 * late, rough]), pores


def _print_on(look, points, part, normals, defect) -> None:
    """Put the prints' inks into `look` [N, 5]."""
    x, y, z = points.T
    aside = np.isin(part, (CAB, FRAME)) & (np.abs(normals[:, 1]) > 0.8) & (np.abs(y) > 0.27)
    aside |= (part == BOILER) & (np.abs(normals[:, 1]) > 0.4)
    where = (
        aside & (y > 0),
        aside & (y < 0),
        (part == DOOR) & (x > 0.84),
        (part == FRAME) & (z < -0.55),
    )
    for face, on in enumerate(where):
        on = on.nonzero()[0]
        ink = _inked(points[on], face, defect)
        look[on[ink > 0], :3] = INKS[ink[ink > 0] - 1]


def _inked(points, face: int, defect: dict | None):
    """Ink at points [N, 3] of a face: 0 or 1 + index in INKS, [N]."""
    axes, half = FACES[face][:2], FACES[face][2]
    own = defect if defect and defect["kind"] == "misprint" and defect["face"] == face else None

    def printed(at):
        return picked(_image(face), *((at + half) * PX).T)

    if own is None or own["form"] != LEFT_OUT:
        return inked_face(printed, points, axes, own)
    away = np.linalg.norm(points - np.array(own["centre"]), axis=1) / own["radius"]
    ragged = 0.12 * fractal_noise_3d(points, 14, own["seed"], 3)
    return inked_face(printed, points, axes, None) * (away + ragged > 1)


@cache
def _image(face: int) -> np.ndarray:
    """What is printed on a face, [rows, columns]."""
    canvas = Canvas(FACES[face][2], PX)
    if face == UNDERSIDE:
        canvas.write(0, -0.25, 70, BURNT, "ARX", stroke=2)
        canvas.write(0, -0.05, 26, BURNT, "EN 71  3+")
        canvas.disc(0, 0.3, 0.07, BURNT)
        canvas.disc(0, 0.3, 0.05, 0)
        return canvas.inks()
    if face == FRONT:
        canvas.disc(0, -AXIS, 0.155, GOLD)
        canvas.disc(0, -AXIS, 0.135, 0)
        turns = np.arange(10) * np.pi / 5
        reach = np.where(np.arange(10) % 2 == 0, 0.12, 0.05)
        star = np.stack([reach * np.sin(turns), -AXIS - reach * np.cos(turns)], 1)
        canvas.draw.polygon(canvas.px(*star.ravel()), PALE)
        canvas.write(0, -AXIS, 26, DARK, "508", stroke=1)
        return canvas.inks()
    flip = -1 if face == LEFT else 1
    middle = flip * CAB_X
    canvas.disc(middle, 0.09, 0.235, DARK, 0.135)
    canvas.disc(middle, 0.09, 0.220, PALE, 0.120)
    canvas.write(middle, 0.085, 76, DARK, "508", stroke=3)
    if face == LEFT:
        canvas.write(flip * 0.15, -AXIS, 66, PALE, "BERTA", stroke=2)
        canvas.write(flip * 0.3, 0.33, 26, BURNT, "BEECH")
    else:
        canvas.write(middle, 0.172, 18, BRIGHT, "EXPRESS")
        for edge in (-0.05, 0.05):
            left, right = sorted((flip * -0.02, flip * 0.32))
            canvas.rectangle(left, -AXIS + edge - 0.012, right, -AXIS + edge + 0.012, PALE)
    return canvas.inks()


def _spoil(look, points, part, wood, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; wood: the look of what is below the paint."""
    kind, (x, y, z) = defect["kind"], points.T
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
    if kind == "missing":
        lost, centre, reach, _ = LOST[int(defect["which"])]
        scar = (_whole(x, y, z)[lost] < 0.004) & (away < reach)
        glued = smoothstep(0.3 + fractal_noise_3d(points, 20, defect["seed"], 3))[:, None]
        scarred = wood + 0.6 * glued * (np.array([*DRIED, 0, 0.3]) - wood)
        look[scar] = scarred[scar]
    if kind == "chip" and defect["broken"]:
        torn = np.abs(_broken_off(x, y, z, defect)) < 0.006
        look[torn] = (wood * (1.1, 1.1, 1.1, 1, 1.5))[torn]
    elif kind == "chip":
        reach = away / defect["radius"] + 0.25 * fractal_noise_3d(points, 11, defect["seed"], 4)
        look[reach < 0.85] = wood[reach < 0.85]
    if kind == "crack":
        split = _cracked(x, y, z, defect) < 0.004
        look[split] = (*SPLIT, 0, 0.85)
    if kind == "stain":
        edge = away / defect["radius"] + 0.32 * fractal_noise_3d(points, 12, defect["seed"], 4)
        sort, cover = defect["sort"], defect["cover"] * smoothstep((1 - edge) / 0.2)
        spot = np.array([*SPLASHES[int(defect["colour"])], 0, 0.2])
        if sort == GLUE:
            spot = np.array([*DRIED, 0, 0.15])
        elif sort == SOOT:
            spot = np.array([*GRIME, 0, 0.7])
            cover = cover * smoothstep(0.8 + fractal_noise_3d(points, 22, defect["seed"] + 1, 3))
        look += cover[:, None] * (spot - look)
