"""A power plug: matt plastic with grips, brass pins, a screw, a fuse, a cable stub; its defects.

Its pins point along y, the cable leaves downwards. Left and right look alike but for small print.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import described, inked_face, picked, solid_with_parts
from .mesh import Mesh, both, box, cylinder, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.4}
SMALLEST_MASK = {"missing": 0.0012, "chip": 0.0015, "bent": 0.002, "misprint": 0.0015}
LOW, HIGH, STEP = np.array([-0.56, -0.34, -1.02]), np.array([0.56, 0.90, 0.62]), 0.008
HALF, MIDDLE = (0.50, 0.24, 0.46), 0.10  # of the body, and the height of its centre
FACE, LONG, SLEEVE = HALF[1], 0.50, 0.25  # y that the pins stand on; their, sleeves' length
# of each pin: x, z, half sizes along x and z
PINS = ((0.0, 0.38, 0.05, 0.095), (-0.23, -0.06, 0.08, 0.05), (0.23, -0.06, 0.08, 0.05))
EARTH = 0  # the pin without a sleeve
SCREW, FUSE = (0.0, 0.15, 0.07), (0.0, -0.06, 0.105, 0.06)  # x, z, radius; x, z, half sizes
LABEL = (0.30, 0.20)  # half sizes of the panel on the back
CABLE_END = -0.98
PX = 400  # of the prints, per world unit
HALF_PRINT = 0.6  # of the pictures that are printed, world units
FRONT, BACK = 1, -1
ORANGE, WHITENED, BLACK = (0.66, 0.17, 0.015), (0.80, 0.44, 0.22), (0.03, 0.03, 0.032)
BRASS, STEEL, COPPER = (0.72, 0.52, 0.23), (0.52, 0.52, 0.51), (0.70, 0.30, 0.16)
GREY = (0.22, 0.22, 0.23)
SOOT, CHAR, SINGED = (0.012, 0.012, 0.012), (0.022, 0.016, 0.012), (0.16, 0.06, 0.02)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*ORANGE, 0, 0.55), (*BRASS, 1, 0.25), (*STEEL, 1, 0.3), (*GREY, 0, 0.5), (*BLACK, 0, 0.6)]
)
INKS = np.array([(0.03, 0.03, 0.03), (0.76, 0.74, 0.70)])
WIRES = ((0.0, 0.034), (-0.03, -0.018), (0.03, -0.018))  # across the cut cable
# side, x as it is seen, z, height of the letters in px, ink, text
TEXTS = (
    (FRONT, -0.23, 0.07, 40, 1, "L"),
    (FRONT, 0.23, 0.07, 40, 1, "N"),
    (FRONT, 0.13, 0.38, 40, 1, "E"),
    (FRONT, 0.0, -0.24, 44, 1, "250V~ 13A"),
    (FRONT, 0.0, -0.06, 32, 2, "13A"),
    (BACK, 0.0, 0.20, 84, 1, "ARX"),
    (BACK, 0.06, 0.055, 30, 1, "PL-3  250V~"),
    (BACK, 0.06, -0.03, 30, 1, "LOT 2206"),
    (BACK, 0.0, 0.42, 34, 2, "PULL HERE"),
)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (bent, missing, scorch, chip, misprint)."""
    sizes, normal = {}, (0, 1, 0)
    if kind == "bent":
        pin = int(rng.integers(len(PINS)))
        centre = PINS[pin][0], FACE + 0.65 * LONG, PINS[pin][1]
        sizes = {"pin": pin, "towards": rng.uniform(-np.pi, np.pi), "turn": rng.uniform(0.2, 0.42)}
        normal = (rng.choice([-1.0, 1.0]), 0.9, rng.uniform(-0.6, 0.6))
    elif kind == "missing":  # a pin, the screw or the fuse
        part = rng.choice(len(PINS) + 2, p=(0.16, 0.16, 0.16, 0.36, 0.16))
        x, z = (*PINS, SCREW, FUSE)[part][:2]
        centre, sizes = (x, FACE + (0.5 * LONG if part < len(PINS) else 0), z), {"part": part}
    elif kind == "scorch":
        sizes = {"radius": rng.uniform(0.13, 0.22)}
        if rng.random() < 0.6:  # at a pin's foot, on the side away from the middle
            x, z = PINS[rng.integers(len(PINS))][:2]
            centre = 1.25 * x + rng.uniform(-0.06, 0.06), FACE, z + rng.uniform(-0.08, 0.08)
        else:
            centre, normal = _place(rng.uniform(-np.pi, np.pi), rng.choice([-0.15, 0.0, 0.15]))
    elif kind == "chip":  # of the edge of the front or of the back
        sizes = {"radius": rng.uniform(0.10, 0.15)}
        side = rng.choice([FRONT, BACK])
        centre, normal = _place(rng.uniform(-0.7, np.pi + 0.7), side * (HALF[1] - 0.035))
    elif kind == "misprint":  # a print moved or smeared
        side = int(rng.choice([FRONT, BACK]))
        places = [t for t in TEXTS if t[0] == side and t[5] not in ("13A", "PULL HERE")]
        _, across, z, *_ = places[rng.integers(len(places))]
        centre, normal = (-side * across, side * HALF[1], z), (0, side, 0)
        sizes = {"side": side, "smeared": rng.random() < 0.5, "radius": rng.uniform(0.13, 0.19)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.01, 0.03)
    else:
        raise ValueError(f"the plug has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(angle, y):
    """A point of the body seen from its middle at `angle` (x towards z), its normal, each [3]."""
    way = np.linspace(0.8, 0, 1601)
    x, z = way * np.cos(angle), way * np.sin(angle)
    first = (_block(x, 0 * x + y, z + MIDDLE) < 0).argmax()
    point, off = np.array([x[first], y, z[first] + MIDDLE]), 0.004 * np.eye(3)
    return point, unit(_block(*(point + off).T) - _block(*(point - off).T))


def _block(x, y, z):
    """Distance to the body without grips, panel and holes: it tapers backwards and downwards."""
    taper = 1 + 0.22 * (FACE - y)
    low = 1 + 0.25 * smoothstep((MIDDLE - z) / 0.5)
    body = box(x * taper * low, y, (z - MIDDLE) * taper, HALF, rounding=0.09)
    neck = both(_cable_reach(x, y, z) - 0.16, np.abs(z + 0.36) - 0.12)
    return smooth_min(body, neck, 0.08)


def _cable_reach(x, y, z):
    """Distance from the cable's middle line, which sags backwards."""
    sag = 0.35 * np.maximum(-0.45 - z, 0) ** 2
    return np.sqrt(x * x + (y + sag) ** 2)


def _pin(x, y, z, pin, defect):
    """Distance-like value of a pin, and y along it, turned about its foot when bent."""
    px, pz, half_x, half_z = PINS[pin]
    x, y, z = x - px, y - FACE, z - pz
    if defect and defect["kind"] == "bent" and defect["pin"] == pin:
        cos, sin = np.cos(defect["towards"]), np.sin(defect["towards"])
        lean, aside = cos * x + sin * z, cos * z - sin * x
        turn_cos, turn_sin = np.cos(defect["turn"]), np.sin(defect["turn"])
        lean, y = turn_cos * lean - turn_sin * y, turn_sin * lean + turn_cos * y
        x, z = cos * lean - sin * aside, sin * lean + cos * aside
    point = 0.35 * np.maximum(y - LONG + 0.07, 0)  # the tip is chamfered
    half = half_x, (LONG + 0.1) / 2, half_z
    return box(x, y - (LONG - 0.1) / 2, z, half, rounding=0.012) + point, y


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of body, pins, screw, fuse and cable with sleeves, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    body = _block(x, y, z)
    level = smoothstep((0.30 - np.abs(z - MIDDLE)) / 0.04)
    grip = (0.5 + 0.5 * np.cos(2 * np.pi * (z - MIDDLE) / 0.086)) * level
    body = body + 0.022 * grip * smoothstep((np.abs(x) - 0.34) / 0.05)
    panel = box(x, y + HALF[1], z - MIDDLE, (LABEL[0], 0.016, LABEL[1]), rounding=0.01)
    body = -smooth_min(-body, panel, 0.01)
    pins, sleeves = np.full_like(x, 9), np.full_like(x, 9)
    for k, (px, pz, half_x, half_z) in enumerate(PINS):
        if k == lost:
            hole = box(x - px, y - FACE, z - pz, (half_x, 0.2, half_z), rounding=0.01)
            body = np.maximum(body, -hole)
            continue
        pin, along = _pin(x, y, z, k, defect)
        if k == EARTH:
            pins = np.minimum(pins, pin)
        else:
            pins = np.minimum(pins, both(pin, SLEEVE - along))
            sleeves = np.minimum(sleeves, both(pin - 0.002, along - SLEEVE))
    sx, sz, radius = SCREW
    reach = cylinder(x - sx, z - sz, radius)
    body = np.maximum(body, -both(reach - 0.015, FACE - 0.05 - y))
    across = 0.87 * (x - sx) + 0.5 * (z - sz)
    slot = both(np.abs(across) - 0.014, FACE - 0.045 - y)
    head = both(reach, y - FACE + 0.015, FACE - 0.15 - y, -slot)
    if lost == len(PINS):
        body = np.maximum(body, -both(reach + 0.015, FACE - 0.25 - y))
        head = np.full_like(x, 9)
    fx, fz, half_x, half_z = FUSE
    seat = box(x - fx, y - FACE, z - fz, (half_x, 0.12, half_z), rounding=0.015)
    body = np.maximum(body, -seat)
    fuse = box(x - fx, y - FACE + 0.06, z - fz, (half_x - 0.012, 0.07, half_z - 0.012), 0.015)
    if lost == len(PINS) + 1:
        fuse = np.full_like(x, 9)
    thick = 0.125 + 0.10 * (z + 0.45)  # the strain relief: a cone with rings
    rings = 0.022 * smoothstep(0.5 + 1.2 * np.cos(2 * np.pi * (z + 0.45) / 0.075))
    reach = _cable_reach(x, y, z)
    relief = both(reach - thick + rings, -0.76 - z, z + 0.40)
    cable = both(reach - 0.068, CABLE_END - z, z + 0.5)
    return body, pins, head, fuse, np.minimum.reduce([sleeves, relief, cable])


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
    solid = np.minimum.reduce(parts(x, y, z, defect))
    if defect and defect["kind"] == "chip":
        solid = np.maximum(solid, -_broken_off(x, y, z, defect))
    return solid


def _broken_off(x, y, z, defect):
    """Distance-like value of a chip: a ball about a point a little outside of the edge."""
    out = 0.35 * defect["radius"] * np.array(defect["normal"])
    away = [v - c - o for v, c, o in zip((x, y, z), defect["centre"], out, strict=True)]
    rough = 0.010 * np.sin(41 * x + 1) * np.sin(37 * y) + 0.008 * np.sin(47 * z)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + rough


def mesh(defect: dict | None = None) -> Mesh:
    """The plug's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    body, fuse = part == 0, part == 3
    mottle, grain = fractal_noise_3d(points, 5, 2, 4), fractal_noise_3d(points, 45, 3, 2)
    look[:, :3] *= (1 + 0.04 * mottle + 0.03 * grain * body)[:, None]
    look[:, 4] += 0.03 * mottle
    for side in (FRONT, BACK):
        ink = inked(points, side, defect)
        ink[~(body | fuse) | (side * y < HALF[1] - 0.03)] = 0
        look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    hidden = body & (_block(x, y, z) < -0.03)  # in holes
    look[hidden] = (*SOOT, 0, 0.8)
    end = (part == 4) & (z < CABLE_END + 0.006)
    sag = 0.35 * (-0.45 - CABLE_END) ** 2
    for wx, wy in WIRES:
        look[end & (np.hypot(x - wx, y + sag - wy) < 0.02)] = (*COPPER, 1, 0.4)
    if kind == "chip":
        cut = (body | fuse) & (np.abs(_broken_off(x, y, z, defect)) < 0.006)
        cut &= _block(x, y, z) < -0.004
        look[cut] = (*WHITENED, 0, 0.85)
        look[cut, :3] *= 1 + 0.08 * fractal_noise_3d(points[cut], 25, 5, 3)[:, None]
    if kind == "scorch":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.2 * fractal_noise_3d(points, 9, defect["seed"], 4)
        singed = 0.9 * smoothstep((1 - edge) / 0.3)
        charred = 0.95 * smoothstep((0.62 - edge) / 0.35)
        for cover, burnt in ((singed, SINGED), (charred, CHAR)):
            cover = (cover * (body | fuse))[:, None]
            look = look * (1 - cover) + np.array([*burnt, 0, 0.9]) * cover
    return solid.painted(look)


def inked(points, side: int, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of the front or the back: 0 or 1 + index in INKS, [N]."""
    axes = (-side, 0, 0), (0, 0, -1)  # right and down, as it is seen
    spoilt = defect and defect["kind"] == "misprint" and defect["side"] == side
    return inked_face(lambda at: _printed(at, side), points, axes, defect if spoilt else None)


def _printed(places, side):
    """Ink at places [N, 2] (right, down) of a side: 0 or 1 + index in INKS."""
    return picked(_print_image(side), *((places + HALF_PRINT) * PX).T)


@cache
def _print_image(side: int) -> np.ndarray:
    """What is printed on the front or the back, [rows, columns]."""
    size = round(2 * HALF_PRINT * PX)
    image = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(image)

    def px(across, z):
        return (across + HALF_PRINT) * PX, (HALF_PRINT - z) * PX

    for face, across, z, height, ink, text in TEXTS:
        if face == side:
            font = ImageFont.load_default(size=height)
            draw.text(px(across, z), text, ink, font, anchor="mm", stroke_width=1)
    if side == BACK:  # a double square: insulated twice
        for half in (0.036, 0.02):
            draw.rectangle(
                (*px(-0.22 - half, 0.02 + half), *px(-0.22 + half, 0.02 - half)), None, 1, 4
            )
        draw.line((*px(-0.25, 0.125), *px(0.25, 0.125)), 1, 5)
    return np.asarray(image, int)
