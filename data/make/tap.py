"""A ball valve: brass with hexagons, a threaded outlet, a lever in a red sleeve; its defects.

Water runs along x, the stem stands along z, the lever is half open and points back over the inlet.
Raised marks tell front (-y) and back (y) apart; a drain screw sits at the lower back.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import (
    described,
    ink_distance,
    marked_face,
    picked,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, box, cylinder, hexagon, rod, smooth_min, thread_depth, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0012, "dent": 0.0015, "scratch": 0.0009, "corrosion": 0.0015}
SMALLEST_MASK |= {"bent": 0.003}
LOW, HIGH, STEP = np.array([-1.01, -0.74, -0.72]), np.array([0.90, 0.46, 0.70]), 0.0075
AXIS = -0.30  # z of the pipe's; heights below are from it
WAIST, BULGE, STRETCH = (0.255, -0.60, 0.36), 0.355, 1.25  # radius, from and to x; around the ball
INLET = (0.285, -0.80, -0.52, 0.0)  # hexagon: inner radius, from and to x, turn in rad
OUTLET = (0.275, 0.36, 0.55, 0.35)
PIPE, PITCH, DEPTH = (0.232, 0.40, 0.84), 0.064, 0.024  # outer radius, from and to x; its thread
BORE, SOCKET, CUT = 0.160, (0.20, -0.56), 0.016  # radius; of the inlet's thread, to x; its depth
BALL, PORT = 0.235, 0.145
PAD = (0.255, 0.366, 0.15)  # half sizes of the flat faces that the marks are on
RAISED = 0.018  # height of the marks
BOSS = (0.175, 0.20, 0.47)  # radius, from and to height
GLAND = (0.140, 0.46, 0.565)  # a hexagon: inner radius, from and to height
STEM, STEM_PITCH, STEM_DEPTH = (0.062, 0.40, 0.80), 0.055, 0.012
PLATE = (0.60, 0.027, 0.15, 0.078)  # of the lever: height, half thickness, hub's radius, half width
RISE = (0.13, 0.16, 0.25)  # of the lever: how far, from where, over what length
NUT = (0.112, 0.627, 0.722)  # as GLAND
FLANGE = (0.142, 0.627, 0.648)  # of the nut: radius, from and to height
TURN, STEEL_END = np.pi + 0.45, 0.86  # of the lever: azimuth in rad, length
SLEEVE = (0.63, 0.29, 0.104, 0.056)  # along the lever; half length, width and thickness
EYE = (0.835, 0.032)  # to hang it by: along the lever, radius
RIBS = (0.062, 0.011)  # pitch, depth
BEND = 0.27  # along the lever, where it gets bent
DRAIN, DRAIN_BOSS = (0.072, 0.36, 0.44), (0.115, 0.2, 0.405)  # radius, from and to
DRAIN_AT = (-0.36, 0.75)  # x; angle below y
FRONT, BACK = -1, 1
PX = 400  # of the lettering and the print, per world unit
# right and down from the pad's middle, height of the letters in px, text
TEXTS = {
    FRONT: ((0, -0.058, 54, "PN 25"), (-0.10, 0.06, 50, "1/2")),
    BACK: ((0, -0.058, 44, "CW617N"), (0.10, 0.06, 50, "15")),
}
ARROWS = {FRONT: (0.01, 0.06, 1), BACK: (-0.01, 0.06, -1)}  # tail's right and down, direction
CAST, MACHINED, TARNISH = (0.66, 0.455, 0.185), (0.78, 0.56, 0.25), (0.36, 0.23, 0.09)
CHROME, ZINC, SEAT = (0.63, 0.64, 0.65), (0.56, 0.57, 0.58), (0.70, 0.69, 0.66)
RED, WHITE, SOOT = (0.50, 0.022, 0.018), (0.78, 0.76, 0.72), (0.02, 0.017, 0.014)
SCORED, PALE, TORN = (0.11, 0.075, 0.04), (0.72, 0.26, 0.22), (0.62, 0.10, 0.08)
VERDIGRIS, CHALKY, BROWN = (0.06, 0.18, 0.13), (0.22, 0.38, 0.30), (0.10, 0.06, 0.03)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*CAST, 1, 0.37), (*MACHINED, 1, 0.25), (*CHROME, 1, 0.13), (*CHROME, 1, 0.17)]
    + [(*ZINC, 1, 0.20), (*ZINC, 1, 0.30), (*RED, 0, 0.36), (*ZINC, 1, 0.27)]
)
BODY, TAIL, VALVE, SPINDLE, TOP_NUT, LEVER, GRIP, DRAINER = range(8)
LOST_NUT, LOST_END, LOST_DRAIN = range(3)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, dent, scratch, corrosion, bent)."""
    ahead = np.array([np.cos(TURN), np.sin(TURN), 0])
    level = np.array([-ahead[1], ahead[0], 0])
    if kind == "missing":  # the nut, the end of the sleeve, the drain screw
        part = int(rng.integers(3))
        sizes, turn = {"part": part}, rng.uniform(-np.pi, np.pi)
        centre, normal = (0, 0, AXIS + NUT[2]), (np.cos(turn), np.sin(turn), 1.2)
        if part == LOST_END:
            sizes |= {"cut": rng.uniform(0.70, 0.79), "slant": rng.uniform(-0.5, 0.5)}
            centre = 0.82 * ahead + [0, 0, AXIS + PLATE[0] + RISE[0]]
            normal = 0.5 * ahead + rng.uniform(-0.6, 0.6) * level + [0, 0, rng.choice([-0.6, 1])]
        elif part == LOST_DRAIN:
            x, below = DRAIN_AT
            normal = np.array([0, np.cos(below), -np.sin(below)])
            centre = DRAIN[2] * normal + [x, 0, AXIS]
    elif kind == "dent":
        sizes = {"radius": rng.uniform(0.10, 0.16), "depth": rng.uniform(0.035, 0.06)}
        centre, normal = _place((BODY, TAIL), rng)
        while _clearance(centre, normal) < sizes["radius"]:  # it would dent the lever too
            centre, normal = _place((BODY, TAIL), rng)
    elif kind == "scratch":
        centre, normal = _place((BODY, TAIL, GRIP), rng)
        while abs(normal[0]) > 0.8:  # the narrow rims of inlet and outlet
            centre, normal = _place((BODY, TAIL, GRIP), rng)
        sizes = {"length": rng.uniform(0.14, 0.30), "width": rng.uniform(0.012, 0.018)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "corrosion":  # verdigris on the brass
        centre, normal = _place((BODY, TAIL), rng)
        sizes = {"radius": rng.uniform(0.07, 0.13), "cover": rng.uniform(0.6, 0.95)}
    elif kind == "bent":  # the lever, sideways, up or down
        towards = rng.uniform(-np.pi, np.pi)
        sizes = {"towards": towards, "angle": rng.uniform(0.10, 0.24)}
        centre = 0.6 * ahead + [0, 0, AXIS + PLATE[0] + RISE[0]]
        normal = np.cos(towards) * np.array([0, 0, 1.0]) - np.sin(towards) * level
        normal = normal * np.sign(normal[2] or 1)
    else:
        raise ValueError(f"the tap has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(of, rng):
    """A point of one of the parts `of` that shows from a side, and its normal, each [3]."""
    while True:
        axis = rng.choice(3, p=(0.1, 0.5, 0.4))
        way = np.tile(rng.uniform((-0.86, -0.5, -0.60), (0.82, 0.3, 0.45)), (901, 1))
        way[:, axis] = np.linspace(1, -1, 901) * rng.choice([-1, 1])
        values = np.array(parts(*way.T))
        first = (values.min(0) < 0).argmax()
        hollow = cylinder(way[first, 1], way[first, 2] - AXIS, BORE + 0.05) < 0
        if values[:, first].min() < 0 and values[:, first].argmin() in of and not hollow:
            point, off = way[first], 0.02 * np.eye(3)
            return point, unit(distance(*(point + off).T) - distance(*(point - off).T))


def _clearance(centre, normal):
    """Least distance of stem, lever and screw from the line that leaves the surface outwards."""
    way = centre + np.linspace(0, 1.5, 61)[:, None] * normal
    return np.min(parts(*way.T)[SPINDLE:])


def _hexagonal(x, y, z, sizes, turn=0.0):
    """Distance-like value of a nut about z with chamfered corners."""
    radius, bottom, top = sizes
    cos, sin = np.cos(turn), np.sin(turn)
    flats = hexagon(cos * x + sin * y, cos * y - sin * x, radius)
    ends = np.abs(z - (bottom + top) / 2) - (top - bottom) / 2
    corners = 0.8 * (cylinder(x, y, 1.11 * radius) + 0.6 * (ends + 0.25 * radius).clip(0))
    return -smooth_min(-np.maximum(flats, corners), -ends, 0.012)


def _cast_body(x, y, h):
    """Distance-like value of the body around the ball, without bore and marks."""
    radius, start, end = WAIST
    body = rod(y, h, x, radius, start, end, 0.02)
    bulge = np.sqrt((x / STRETCH) ** 2 + y * y + h * h) - BULGE
    body = smooth_min(body, bulge, 0.10)
    body = smooth_min(body, box(x, y, h, PAD, rounding=0.03), 0.03)
    body = smooth_min(body, rod(x, y, h, *BOSS, 0.02), 0.07)
    return smooth_min(body, rod(*_at_drain(x, y, h), *DRAIN_BOSS, 0.02), 0.05)


def _at_drain(x, y, h):
    """Places across the drain screw's axis and outwards along it."""
    cos, sin = np.cos(DRAIN_AT[1]), np.sin(DRAIN_AT[1])
    return x - DRAIN_AT[0], cos * h + sin * y, cos * y - sin * h


def _letters(x, y, h):
    """Distance-like value of the raised marks, as deep as space."""
    value = np.full_like(x, 1)
    for side in TEXTS:
        facing = side * y > 0
        right, down = -side * x[facing], -h[facing]
        value[facing] = marked_face(_letter_image(side), right, down, (PAD[0], PAD[2]), PX)
    return value


@cache
def _letter_image(side: int) -> np.ndarray:
    """Distance to the marks of a side in world units, negative within, [rows, columns]."""
    image = Image.new("L", (round(2 * PAD[0] * PX), round(2 * PAD[2] * PX)), 0)
    draw = ImageDraw.Draw(image)
    for right, down, height, text in TEXTS[side]:
        place, font = ((right + PAD[0]) * PX, (down + PAD[2]) * PX), ImageFont.load_default(height)
        draw.text(place, text, 255, font, anchor="mm", stroke_width=1)
    right, down, way = ARROWS[side]
    outline = [(0, 0.016), (0.10, 0.016), (0.10, 0.05), (0.18, 0), (0.10, -0.05), (0.10, -0.016)]
    outline.append((0, -0.016))
    at = [((PAD[0] + right + way * a) * PX, (PAD[2] + down + b) * PX) for a, b in outline]
    draw.polygon(at, 255)
    return ink_distance(image, PX)


def _on_lever(x, y, h, defect):
    """Places along the lever, level across it and up from its middle, as if it were not bent."""
    along = np.cos(TURN) * x + np.sin(TURN) * y
    level, up = np.cos(TURN) * y - np.sin(TURN) * x, h - PLATE[0]
    if defect and defect["kind"] == "bent":
        past = np.tan(defect["angle"]) * -smooth_min(BEND - along, 0 * along, 0.08)
        level, up = level - np.sin(defect["towards"]) * past, up - np.cos(defect["towards"]) * past
    far, start, over = RISE
    return along, level, up - far * smoothstep((along - start) / over)


def _sleeve(along, level, up, defect):
    """Distance-like value of the sleeve: ribs at its sides and below, an eye, a tapering waist."""
    middle, long, half, thick = SLEEVE
    wide = half - 0.016 * np.cos(np.pi * (along - middle) / long)
    sleeve = box(along - middle, level * half / wide, up, (long, half, thick), rounding=0.05)
    ribs = 0.5 + 0.5 * np.cos(2 * np.pi * (along - middle) / RIBS[0])
    held = smoothstep((0.17 - np.abs(along - middle + 0.02)) / 0.03)
    below = np.maximum(smoothstep((np.abs(level) - 0.07) / 0.02), smoothstep(-up / 0.03))
    sleeve = sleeve + RIBS[1] * ribs * held * below
    if defect and defect["kind"] == "missing" and defect["part"] == LOST_END:
        sleeve = np.maximum(sleeve, _torn(along, level, up, defect))
    return sleeve


def _torn(along, level, up, defect):
    """Distance-like value that is positive where the sleeve's end broke off."""
    phase = defect["seed"] % 7
    rough = 0.008 * np.sin(61 * level + phase) + 0.006 * np.sin(83 * up + 37 * level + phase)
    return along - defect["cut"] - defect["slant"] * level + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of body, tail, ball, stem, nut, lever, sleeve, drain screw; as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    h = z - AXIS
    body = _cast_body(x, y, h)
    marks = both(_letters(x, y, h), np.abs(y) - PAD[1] - RAISED, PAD[1] - 0.05 - np.abs(y))
    body = np.minimum(body, marks)
    body = smooth_min(body, _hexagonal(y, h, x, INLET[:3], INLET[3]), 0.03)
    socket = cylinder(y, h, SOCKET[0]) - CUT * thread_depth(y, h, x, PITCH)
    entry = 0.8 * (cylinder(y, h, SOCKET[0] + 0.03) + (x - INLET[1]))  # chamfered
    inside = np.minimum(both(np.minimum(socket, entry), x - SOCKET[1]), cylinder(y, h, BORE))
    ball = np.sqrt(x * x + y * y + h * h) - BALL
    body = np.maximum(body, -np.minimum(inside, ball + 0.008))
    cross = np.cos(TURN) * y - np.sin(TURN) * x
    ball = np.maximum(ball, -cylinder(cross, h, PORT))
    radius, start, end = PIPE
    tip = 0.7 * np.maximum(x - end + 0.03, 0)
    pipe = rod(y, h, x, radius, start, end, 0.01) + tip
    pipe = pipe + DEPTH * thread_depth(y, h, x, PITCH) * smoothstep((x - OUTLET[2] - 0.02) / 0.02)
    tail = np.minimum(pipe, _hexagonal(y, h, x, OUTLET[:3], OUTLET[3]))
    tail = np.maximum(tail, -cylinder(y, h, BORE + 0.2 * np.maximum(x - end + 0.03, 0)))
    stem = rod(x, y, h, *STEM, 0.012)
    stem = stem + STEM_DEPTH * thread_depth(x, y, h, STEM_PITCH) * (h > GLAND[2] + 0.01)
    stem = np.minimum(stem, _hexagonal(x, y, h, GLAND, 0.3))
    nut = np.minimum(_hexagonal(x, y, h, NUT, 0.75), rod(x, y, h, *FLANGE, 0.01))
    if lost == LOST_NUT:
        nut = np.full_like(x, 9)
    along, level, up = _on_lever(x, y, h, defect)
    _, thick, hub, half = PLATE
    plan = smooth_min(
        cylinder(along, level, hub),
        box(along - STEEL_END / 2, level, 0 * x, (STEEL_END / 2, half, 1), rounding=0.05),
        0.05,
    )
    eye = cylinder(along - EYE[0], level, EYE[1])
    lever = both(plan, np.abs(up) - thick, -eye) * 0.8
    sleeve = np.maximum(_sleeve(along, level, up, defect), -eye)
    a, b, out = _at_drain(x, y, h)
    drain = both(rod(a, b, out, *DRAIN, 0.015), -both(np.abs(a + 0.4 * b) - 0.014, 0.415 - out))
    if lost == LOST_DRAIN:
        drain = np.full_like(x, 9)
        body = np.maximum(body, -both(cylinder(a, b, DRAIN[0] - 0.014), 0.28 - out))
    return body, tail, ball, stem, nut, lever, sleeve, drain


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The tap's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, h = points[:, 0], points[:, 1], points[:, 2] - AXIS
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    reach, body = np.hypot(y, h), part == BODY
    mottle, grain = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 60, 3, 2)
    turned = body & (x < INLET[2] + 0.01) & (reach > SOCKET[0] - 0.02)
    raised = body & (np.abs(y) > PAD[1] + 0.6 * RAISED)
    look[turned | raised] = (*MACHINED, 1, 0.25)
    shaded = body & ~turned & ~raised
    tarnish = 0.35 * smoothstep(0.35 + 0.5 * mottle)[:, None] * shaded[:, None]
    look[:, :3] += tarnish * (np.array(TARNISH) - look[:, :3])
    look[:, :3] *= (1 + 0.03 * mottle + 0.03 * grain)[:, None]
    look[:, 4] += 0.03 * mottle + 0.02 * grain
    solid.normals = unit(solid.normals)
    blasted = np.stack([fractal_noise_3d(points, 55, seed, 2) for seed in (4, 5, 6)], 1)
    solid.normals[shaded] += 0.06 * blasted[shaded]
    deep = np.zeros(len(x))  # dirt in the threads
    outer = (part == TAIL) & (x > OUTLET[2] + 0.02) & (reach > BORE + 0.03)
    deep[outer] = thread_depth(y, h, x, PITCH)[outer]
    inner = body & (x < SOCKET[1]) & (reach < SOCKET[0] + CUT + 0.01) & (x > INLET[1] + 0.01)
    deep[inner] = 0.7
    deep[(body | (part == TAIL)) & (reach < BORE + 0.01)] = 0.5
    look[:, :3] += 0.6 * deep[:, None] * (np.array(TARNISH) - look[:, :3])
    seat = (body | (part == TAIL)) & (reach < BORE + 0.01)
    seat &= np.abs(np.sqrt(x * x + y * y + h * h) - BALL - 0.025) < 0.03
    look[seat] = (*SEAT, 0, 0.5)
    along, level, up = _on_lever(x, y, h, defect)
    look[(part == GRIP) & (up > 0.035) & _printed(along, level)] = (*WHITE, 0, 0.4)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, brass = defect["kind"], part <= TAIL
    if kind == "scratch":
        scored = scratched(points, defect)
        look[scored & brass] = (*SCORED, 0.3, 0.6)
        look[scored & (part == GRIP)] = (*PALE, 0, 0.65)
    if kind == "corrosion":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.32 * fractal_noise_3d(points, 11, defect["seed"], 4)
        share = smoothstep(0.5 + 0.6 * fractal_noise_3d(points, 20, defect["seed"] + 1, 4))[:, None]
        rot = np.array(CHALKY) * share + np.array(VERDIGRIS) * (1 - share)
        for within, colour in ((1.15, np.array(BROWN) + 0 * rot), (1.0, rot)):  # a brown rim
            cover = defect["cover"] * smoothstep((within - edge) / 0.18) * brass
            rough = np.hstack([colour, 0 * share, 0 * share + 0.9])
            look += cover[:, None] * (rough - look)
    if kind == "missing":
        x, y, h = points[:, 0], points[:, 1], points[:, 2] - AXIS
        along, level, up = _on_lever(x, y, h, defect)
        a, b, out = _at_drain(x, y, h)
        if defect["part"] == LOST_END:
            torn = np.abs(_torn(along, level, up, defect)) < 0.006
            look[torn & (part == GRIP)] = (*TORN, 0, 0.75)
        if defect["part"] == LOST_DRAIN:
            hole = (cylinder(a, b, DRAIN[0] - 0.008) < 0) & (out > 0.25) & (out < 0.40)
            look[hole & (part == BODY)] = (*SOOT, 0, 0.8)


def _printed(along, level) -> np.ndarray:
    """Which places of the sleeve's upper face carry print, bool."""
    return picked(_print_image(), (along - SLEEVE[0] + SLEEVE[1]) * PX, (0.1 - level) * PX) > 127


@cache
def _print_image() -> np.ndarray:
    """What is printed on the sleeve, seen from above with its end to the right, [rows, columns]."""
    image = Image.new("L", (round(2 * SLEEVE[1] * PX), round(0.2 * PX)), 0)
    draw, middle = ImageDraw.Draw(image), 0.1 * PX
    draw.text((70, middle), "ARX", 255, ImageFont.load_default(48), anchor="mm", stroke_width=1)
    draw.line((122, middle, 158, middle), 255, 9)
    draw.polygon([(152, middle - 15), (176, middle), (152, middle + 15)], 255)
    return np.asarray(image)
