"""A wall unit: two rockers with pilot lamps and a socket in a white plate, terminals; its defects.

The front looks along -y, its long side lies along x; behind the plate are a zinc-plated strap and
two blocks with screws, copper wires and print.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, first_met, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"skewed": 0.0012, "missing": 0.0007, "chip": 0.0012, "scratch": 0.001}
SMALLEST_MASK |= {"stain": 0.0012}
LOW, HIGH, STEP = np.array([-0.97, -0.20, -0.61]), np.array([0.97, 0.55, 0.61]), 0.0075
PLATE, FACE, CORNER = (0.94, 0.58), 0.10, 0.09  # half sizes, front's -y, rounding of the corners
OPENING = (-0.43, 0.300, 0.365)  # of the rockers: x, half sizes
ROCKERS, ROCKER = (-0.575, -0.285), (0.141, 0.352)  # x of the middles; half sizes
PROUD, TILTS = 0.035, (0.11, -0.11)  # how far they stand out; slope of on and off, rad
LAMP_AT, LAMP_SIZE = 0.245, (0.050, 0.017)  # up from a rocker's middle; half sizes
STUD = 0.05  # radius of what a rocker rocks on
SOCKET = (0.43, 0.355, 0.19)  # x, radius, y of the floor
PINS = (0.15, 0.052, 0.40)  # |x| from the socket's middle, radius, y of the holes' end
EARTH = (0.325, 0.060, 0.020)  # |z| of the clips, half sizes along x and z
STRAP, SHEET = (0.86, 0.50), (0.02, 0.05)  # half sizes, from and to y
# x, half sizes along x and z, to y
BLOCKS = ((-0.43, 0.33, 0.37, 0.42), (0.43, 0.37, 0.37, 0.48))
# x, z, y of the face, side, radius, turn of the slot
SCREWS = ((0.0, 0.44, -FACE, -1, 0.055, 0.5), (0.0, -0.44, -FACE, -1, 0.055, -0.3))
SCREWS += ((0.43, 0.0, SOCKET[2], -1, 0.062, 1.2), (-0.63, 0.22, 0.42, 1, 0.065, 0.1))
SCREWS += ((-0.23, 0.22, 0.42, 1, 0.065, 0.9), (-0.63, -0.22, 0.42, 1, 0.065, -0.7))
SCREWS += ((0.20, -0.20, 0.48, 1, 0.065, 0.3), (0.43, -0.20, 0.48, 1, 0.065, 1.4))
SCREWS += ((0.66, -0.20, 0.48, 1, 0.065, -0.2),)
WIRES = ((-0.63, 0.09, 0.42), (-0.23, 0.09, 0.42), (-0.63, -0.09, 0.42), (0.20, -0.06, 0.48))
WIRES += ((0.43, -0.06, 0.48), (0.66, -0.06, 0.48))  # x, z, y of the face
WIRE, STUB, HOLE = 0.027, 0.05, 0.042  # radius, how far they stand out, radius of their holes
IVORY, SNOW, GREY = (0.78, 0.785, 0.775), (0.80, 0.80, 0.785), (0.60, 0.61, 0.62)
ZINC, STEEL, BRASS, COPPER = (
    (0.58, 0.59, 0.60),
    (0.60, 0.59, 0.57),
    (0.72, 0.55, 0.26),
    (0.72, 0.32, 0.18),
)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*IVORY, 0, 0.24), (*SNOW, 0, 0.20), (0.74, 0.20, 0.02, 0, 0.12), (0.04, 0.42, 0.10, 0, 0.12)]
    + [(*ZINC, 1, 0.32), (*GREY, 0, 0.5), (*SNOW, 0, 0.42), (*STEEL, 1, 0.25), (*BRASS, 1, 0.28)]
    + [(*COPPER, 1, 0.30)]
)
FRAME, KEYS, AMBER, GREEN, BRACKET, SWITCHING, SUPPLY, FRONT_SCREWS, BACK_SCREWS, CORES = range(10)
INKS = np.array([(0.10, 0.105, 0.115), (0.50, 0.03, 0.02), (0.02, 0.08, 0.33)])
PX, HALF_PRINT = 420, (0.95, 0.60)
FRONT, KEY, BACK = range(3)  # what is printed on
TEXTS = (
    (FRONT, -0.595, -0.465, 34, 1, "HALL"),
    (FRONT, -0.265, -0.465, 34, 1, "PORCH"),
    (FRONT, 0.74, 0.48, 34, 1, "ARXON"),
    (FRONT, 0.43, -0.465, 40, 1, "16A 250V~"),
    (KEY, -0.575, 0.25, 60, 1, "I"),
    (KEY, -0.285, 0.25, 60, 1, "II"),
    (BACK, -0.43, -0.28, 52, 1, "ARXON"),
    (BACK, -0.43, -0.16, 40, 1, "16A 250V~"),
    (BACK, -0.66, -0.03, 44, 3, "N"),
    (BACK, -0.43, -0.03, 40, 1, "PE"),
    (BACK, -0.20, -0.03, 44, 2, "L"),
    (BACK, -0.32, 0.325, 32, 1, "IP20  L26/04"),
    (BACK, 0.43, -0.325, 32, 1, "8 mm"),
    (BACK, 0.53, -0.09, 44, 1, "1"),
    (BACK, 0.53, 0.09, 44, 1, "2"),
    (BACK, 0.33, -0.09, 44, 2, "L"),
    (BACK, 0.40, 0.325, 34, 1, "10AX 250V~"),
    (BACK, 0.43, -0.20, 40, 3, "CE"),
)
SOOT, BROKEN, DULL, PALE = (0.015,) * 3, (0.64, 0.63, 0.60), (0.42, 0.42, 0.41), (0.24, 0.24, 0.25)
# base colour, roughness of the stains: scorched, paint, glue, grease
SPILT = ((0.10, 0.055, 0.025, 0.8), (0.10, 0.27, 0.33, 0.3), (0.55, 0.45, 0.22, 0.15))
SPILT += ((0.16, 0.145, 0.125, 0.4),)
NUM_SCREWS, NUM_WIRES = len(SCREWS), len(WIRES)
NO_LAMP, NO_CLIP, NO_ROCKER = (
    NUM_SCREWS + NUM_WIRES,
    NUM_SCREWS + NUM_WIRES + 2,
    NUM_SCREWS + NUM_WIRES + 4,
)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (skewed, missing, chip, scratch, stain)."""
    lean = rng.uniform(-0.4, 0.4, 2)
    if kind == "skewed":
        which = int(rng.integers(2))
        centre, normal = (ROCKERS[which], -FACE - PROUD, 0), (lean[0], -1, lean[1])
        sizes = {"rocker": which, "turn": rng.choice([-1, 1]) * rng.uniform(0.04, 0.11)}
        sizes |= {"lean": rng.choice([-1, 1]) * rng.uniform(0.10, 0.24)}
        sizes["sunk"] = rng.uniform(-0.02, 0.05)
    elif kind == "missing":  # a screw, a wire, a lamp, an earth clip, a rocker
        first = (0, NUM_SCREWS, NO_LAMP, NO_CLIP, NO_ROCKER)
        group = rng.choice(5, p=(0.4, 0.2, 0.15, 0.1, 0.15))
        part = int(first[group] + rng.integers((NUM_SCREWS, NUM_WIRES, 2, 2, 2)[group]))
        centre, side = _place_of(part)
        normal, sizes = (lean[0], side, lean[1]), {"part": part}
    elif kind == "chip":  # of the plate's edge or of the socket's
        turn, at_socket = rng.uniform(-np.pi, np.pi), rng.random() < 0.25
        out = np.array([np.cos(turn), 0, np.sin(turn)])
        reach = np.min(np.array(PLATE) / np.abs(out[[0, 2]]).clip(1e-6)) - 0.03 * np.abs(out).min()
        centre = out * (SOCKET[1] if at_socket else reach) + [SOCKET[0] * at_socket, -FACE, 0]
        normal = 0.8 * out * (not at_socket) + [0, -1, 0]
        sizes = {"radius": rng.uniform(0.06, 0.10) + 0.04 * (not at_socket)}
    elif kind == "scratch":
        centre, normal = _open_place(rng, (FRAME, FRAME, KEYS, SWITCHING))
        sizes = {"length": rng.uniform(0.12, 0.30), "width": rng.uniform(0.009, 0.015)}
        sizes |= {"angle": rng.uniform(0, np.pi), "dark": rng.random() < 0.5}
    elif kind == "stain":  # scorched at the pins, or of paint, glue, grease
        of = int(rng.integers(4))
        centre, normal = _open_place(rng, (FRAME, KEYS, SWITCHING, SUPPLY))
        if of == 0:
            x, _, floor = SOCKET
            centre, normal = (x + rng.choice([-1, 1]) * PINS[0], floor, 0), (lean[0], -1, lean[1])
        sizes = {"of": of, "radius": rng.uniform(0.08, 0.17)}
        sizes["cover"] = rng.uniform(0.7, 0.95) if of < 2 else rng.uniform(0.3, 0.75)
    else:
        raise ValueError(f"the switch has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place_of(part):
    """Where a part sits that may be missing, [3], and the side it is seen from."""
    if part < NUM_SCREWS:
        x, z, y, side, *_ = SCREWS[part]
        return (x, y, z), side
    if part < NO_LAMP:
        x, z, y = WIRES[part - NUM_SCREWS]
        return (x, y + STUB / 2, z), 1
    if part < NO_CLIP:
        return (ROCKERS[part - NO_LAMP], -FACE - PROUD, LAMP_AT), -1
    if part < NO_ROCKER:
        return (SOCKET[0], 0, EARTH[0] * (1 - 2 * (part - NO_CLIP))), -1
    return (ROCKERS[part - NO_ROCKER], -FACE, 0), -1


def _open_place(rng, among):
    """A point of one of the parts `among` on the front or the back, and its normal, each [3]."""
    while True:
        way = np.tile(rng.uniform((-0.9, 0, -0.54), (0.9, 0, 0.54)), (801, 1))
        way[:, 1] = np.linspace(-0.2, 0.55, 801)
        met = first_met(way[:: rng.choice([-1, 1])], parts, distance)
        if met is not None and met[0] in among and abs(met[2][1]) > 0.8:
            return met[1:]


def _on_rocker(x, y, z, which, defect):
    """Places across, out of and up a rocker from its middle, as if it sat straight."""
    across, out = x - ROCKERS[which], -y - FACE
    if defect and defect["kind"] == "skewed" and defect["rocker"] == which:
        out = out + defect["sunk"]
        cos, sin = np.cos(defect["turn"]), np.sin(defect["turn"])
        across, z = cos * across + sin * z, cos * z - sin * across
        cos, sin = np.cos(defect["lean"]), np.sin(defect["lean"])
        across, out = cos * across + sin * out, cos * out - sin * across
    return across, out - np.tan(TILTS[which]) * z, z


def _screw(x, y, z, number):
    """Distance-like values of a screw's head and of the hole it sits in, without its shaft."""
    sx, sz, face, side, radius, turn = SCREWS[number]
    right, up, out = x - sx, z - sz, side * (y - face)
    reach = cylinder(right, up, radius)
    slot = both(np.abs(np.cos(turn) * right + np.sin(turn) * up) - 0.012, -0.03 - out)
    head = both(-smooth_min(-reach, 0.008 - out, 0.02), -0.05 - out, -slot)
    return head, both(reach - 0.014, -0.028 - out), both(reach + 0.3 * radius, -0.11 - out)


def _broken_off(x, y, z, defect):
    """Distance-like value of what chipped off: a rough ball."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    rough = np.sin(53 * x + phase) * np.sin(61 * y) + 0.8 * np.sin(47 * z - phase)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + 0.009 * rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of each part in the order of LOOKS, each as x."""
    kind = defect["kind"] if defect else None
    lost = int(defect["part"]) if kind == "missing" else -1
    away = np.full_like(x, 9)
    plan = box(x, z, 0 * x, (*PLATE, 1), CORNER)
    plate = -smooth_min(-plan, FACE + y, 0.05)
    plate = np.maximum(plate, y - SHEET[0])
    middle, half_x, half_z = OPENING
    opening = both(box(x - middle, z, 0 * x, (half_x, half_z, 1), 0.03), y - 0.01)
    sx, radius, floor = SOCKET
    reach = cylinder(x - sx, z, radius - 0.04 * (y + FACE))
    recess = both(reach, y - floor, -both(np.abs(np.abs(x - sx) - radius) - 0.03, np.abs(z) - 0.03))
    pins = both(cylinder(np.abs(x - sx) - PINS[0], z, PINS[1]), y - PINS[2])
    cut = np.minimum.reduce([opening, recess, pins])
    strap = both(box(x, z, 0 * x, (*STRAP, 1), 0.03), SHEET[0] - y, y - SHEET[1])
    slots = box(np.abs(x) - 0.83, np.abs(z) - 0.28, 0 * x, (0.018, 0.09, 1), 0.017)
    strap = np.maximum(strap, -both(slots, SHEET[0] + 0.01 - y))
    blocks = []
    for bx, half_x, half_z, end in BLOCKS:
        solid = box(x - bx, y - end / 2, z, (half_x, end / 2, half_z), 0.025)
        blocks.append(both(solid, SHEET[1] - 0.02 - y))
    screws = [away, away]
    for k in range(NUM_SCREWS):
        head, seat, shaft = _screw(x, y, z, k)
        cut = np.minimum(cut, np.minimum(seat, shaft) if k == lost else seat)
        if k != lost:
            back = int(SCREWS[k][3] > 0)
            screws[back] = np.minimum(screws[back], head)
    cores = away
    for k, (wx, wz, face) in enumerate(WIRES):
        reach = np.hypot(x - wx, z - wz)
        cut = np.minimum(cut, both(reach - HOLE, face - 0.10 - y))
        if k != lost - NUM_SCREWS:
            cores = np.minimum(cores, both(reach - WIRE, face - 0.12 - y, y - face - STUB))
    for k, side in enumerate((1, -1)):
        if k != lost - NO_CLIP:
            up, half_x, half_z = side * z - EARTH[0], *EARTH[1:]
            clip = box(x - sx, y - 0.06, up - 0.15 * (y - 0.06), (half_x, 0.12, half_z), 0.015)
            screws[0] = np.minimum(screws[0], clip)
    keys, lamps = both(cylinder(x - ROCKERS[0], z, STUD), y - 0.03, -0.06 - y), []
    keys = np.minimum(keys, both(cylinder(x - ROCKERS[1], z, STUD), y - 0.03, -0.06 - y))
    for k in range(2):
        across, out, up = _on_rocker(x, y, z, k, defect)
        key = box(across, out - PROUD + 0.07, up, (ROCKER[0], 0.07, ROCKER[1]), 0.02)
        key = key + 0.012 * smoothstep(1 - (up / 0.3) ** 2) * (out > 0)
        lamp = box(
            across, out - PROUD + 0.01, up - LAMP_AT, (*LAMP_SIZE[:1], 0.024, LAMP_SIZE[1]), 0.008
        )
        if k == lost - NO_LAMP:
            key, lamp = np.maximum(key, -(lamp - 0.003)), away
        if k == lost - NO_ROCKER:
            key, lamp = away, away
        keys = np.minimum(keys, key)
        lamps.append(lamp)
    if kind == "chip":
        plate = np.maximum(plate, -_broken_off(x, y, z, defect))
    plate, strap, *blocks = (np.maximum(part, -cut) for part in (plate, strap, *blocks))
    return plate, keys, *lamps, strap, *blocks, *screws, cores


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The unit's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    points = points.astype(float)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, grain = fractal_noise_3d(points, 3, 2, 3), fractal_noise_3d(points, 60, 3, 2)
    look[:, :3] *= (1 + 0.01 * mottle + 0.02 * grain * (part >= BRACKET))[:, None]
    look[:, 4] += 0.02 * mottle + 0.02 * grain
    ink = np.where((part == FRAME) & (y < 0.005 - FACE), _printed(FRONT, x, z), 0)
    for which in range(2):
        across, out, up = _on_rocker(x, y, z, which, defect)
        own = (part == KEYS) & (np.abs(across) < ROCKER[0]) & (out > PROUD - 0.03)
        ink[own] = _printed(KEY, across + ROCKERS[which], up)[own]
    back = (part == SWITCHING) & (y > BLOCKS[0][3] - 0.005) | (part == SUPPLY) & (y > 0.475)
    ink[back] = _printed(BACK, -x, z)[back]
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    blocks = (part == SWITCHING) | (part == SUPPLY)
    deep = np.hypot(np.abs(x - SOCKET[0]) - PINS[0], z) < PINS[1] + 0.003
    look[blocks & deep & (np.abs(y - SOCKET[2] - 0.115) < 0.10)] = (*SOOT, 0, 0.8)
    for wx, wz, face in WIRES:
        hole = (np.hypot(x - wx, z - wz) < HOLE + 0.003) & (y < face - 0.012) & (y > face - 0.12)
        look[hole & blocks] = (*SOOT, 0, 0.8)
    if kind == "missing" and defect["part"] < NUM_SCREWS:
        sx, sz, face, side, radius, _ = SCREWS[int(defect["part"])]
        deep = np.abs(side * (face - y) - 0.075) < 0.042
        shaft = (np.hypot(x - sx, z - sz) < 0.75 * radius) & deep
        look[shaft & (part <= SUPPLY)] = (*SOOT, 0, 0.8)
    if kind == "chip":
        cut = (np.abs(_broken_off(x, y, z, defect)) < 0.006) & (part == FRAME)
        look[cut] = (*BROKEN, 0, 0.8)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.06) & (part != CORES)
        look[scored] = (*(PALE if defect["dark"] else DULL), 0, 0.75)
    if kind == "stain":
        of = int(defect["of"])
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.25 * fractal_noise_3d(points, 9, defect["seed"], 4)
        cover = smoothstep((1 - edge) / (0.5, 0.08, 0.25, 0.6)[of])
        if of == 3:  # smeared by a finger
            cover *= 0.55 + 0.45 * np.sin(150 * away + 2 * edge)
        spilt = np.array([*SPILT[of][:3], 0, SPILT[of][3]])
        look = look + (defect["cover"] * cover)[:, None] * (spilt - look)
    return solid.painted(look, least_roughness=0.1)


def _printed(face, right, up):
    """Ink at places [N] of a face: 0 or 1 + index in INKS, [N]."""
    return picked(_print_image(face), (right + HALF_PRINT[0]) * PX, (HALF_PRINT[1] - up) * PX)


@cache
def _print_image(face: int) -> np.ndarray:
    """What is printed on the plate, the rockers or the back, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    for where, *text in TEXTS:
        if where == face:
            canvas.write(*text)
    if face == BACK:  # the wiring: a line to two contacts
        canvas.draw.line(canvas.px(0.17, 0.16, 0.36, 0.16, 0.45, 0.09), 2, 7)
        canvas.draw.line(canvas.px(0.24, 0.16, 0.24, 0.25, 0.36, 0.25, 0.45, 0.19), 2, 7)
        for down in (0.16, 0.25):
            canvas.disc(0.48, down, 0.016, 2)
    return canvas.inks()
