"""A low sneaker for the left foot: woven upper with suede, crossed laces, rubber sole; its defects.

The toe points along x, the outer side is that of +y with the logo; two vents are on the inner one.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import (
    described,
    face_axes,
    first_met,
    inked_face,
    picked,
    solid_with_parts,
)
from .mesh import Mesh, box, unit
from .noise import fractal_noise_3d
from .shoe_form import (
    HIGH,
    LOW,
    STEP,
    WELT,
    above,
    form_distance,
    on_side,
    outline,
    outline_distance,
    rise,
)
from .shoe_parts import (
    ASIDE,
    EYELETS,
    LACE,
    LIP,
    MIDDLE,
    PX,
    RING,
    SHELL,
    STRANDS,
    STRETCH,
    TAB,
    TAB_LOST,
    TONGUE,
    VENTS,
    collar_distance,
    distance,
    lace_tree,
    lost_stretch,
    parts,
    peeled,
    rings_and_holes,
    slit_distance,
    strands,
    suede_distance,
    throat_distance,
    unbent,
)

MATERIAL = {"specular": 0.4}
SMALLEST_MASK = {"cut": 0.0009, "stain": 0.0012, "missing": 0.0005, "peeled": 0.001}
SMALLEST_MASK |= {"misprint": 0.0009}
LOGO, HALF_LOGO = (-0.245, 0.005), (0.25, 0.145)  # x, z; half sizes
BADGE, HALF_BADGE = (-0.235, MIDDLE), (0.085, 0.05)  # x, y on the tongue; half sizes (y, x)
LEFT_OUT, MOVED, SMEARED = range(3)  # kinds of misprint
MUD, GLUE, OIL, INK = range(4)  # stains
NAVY, TAN, GREY = (0.035, 0.085, 0.125), (0.21, 0.165, 0.12), (0.20, 0.205, 0.21)
WHITE, GUMMY, CORD = (0.72, 0.715, 0.69), (0.33, 0.16, 0.06), (0.66, 0.64, 0.58)
THREAD, FOAM, CEMENT = (0.62, 0.58, 0.48), (0.50, 0.44, 0.30), (0.52, 0.44, 0.24)
DIRT, TIP, TORN = (0.075, 0.058, 0.040), (0.03, 0.03, 0.03), (0.36, 0.33, 0.27)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*NAVY, 0, 0.92), (*TAN, 0, 0.95), (*GREY, 0, 0.9), (0.04, 0.09, 0.13, 0, 0.9)]
    + [(*WHITE, 0, 0.55), (*GUMMY, 0, 0.6), (*CORD, 0, 0.85), (0.50, 0.42, 0.27, 1, 0.25)]
    + [(0.47, 0.14, 0.035, 0, 0.7), (0.26, 0.25, 0.23, 0, 0.9)]
)
FABRIC, SUEDE, PADDING, FLAP, SOLE, TREAD, LACES, METAL, LOOP, INSOLE = range(10)
INKS = np.array([(0.74, 0.73, 0.69), (0.60, 0.16, 0.03)])
# base colour, roughness of the stains
SPILT = ((0.24, 0.15, 0.075, 0.95), (0.50, 0.41, 0.20, 0.30), (0.045, 0.035, 0.028, 0.4))
SPILT += ((0.03, 0.05, 0.30, 0.7),)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (cut, stain, missing, peeled, misprint)."""
    if kind == "cut":  # a slit through the upper, the collar or the tab
        centre, normal = _place((FABRIC, FABRIC, SUEDE, PADDING, LOOP), rng)
        sizes = {"length": rng.uniform(0.075, 0.13), "width": rng.uniform(0.012, 0.022)}
        sizes |= {"angle": rng.uniform(0, np.pi), "lift": rng.uniform(0.008, 0.024)}
    elif kind == "stain":  # of mud, glue, oil, ink
        of = int(rng.integers(4))
        on = ((FABRIC, SUEDE, SOLE), (FABRIC, SUEDE), (SUEDE, SOLE), (SUEDE, SOLE, LACES))[of]
        centre, normal = _place(on, rng)
        sizes = {"of": of, "radius": rng.uniform(0.055, 0.12), "cover": rng.uniform(0.6, 0.95)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "missing":
        return _random_loss(rng)
    elif kind == "peeled":  # the sole stands off along a stretch of its edge
        turn = int(rng.integers(len(outline()[0])))
        place, out = (values[turn] for values in outline())
        centre = (*place, LIP + rise(place[0]))
        normal = np.array([*out, rng.uniform(0.6, 1.2)])  # the gap opens upwards
        sizes = {"length": rng.uniform(0.16, 0.30), "gap": rng.uniform(0.028, 0.050)}
        sizes["drop"] = sizes["gap"] * rng.uniform(0.5, 1.1)
    elif kind == "misprint":  # a part of the logo left out, moved or smeared
        way = int(rng.choice(3, p=(0.4, 0.3, 0.3)))
        right, down = rng.uniform((-0.20, -0.07), (0.20, 0.09))
        centre = on_side(LOGO[0] - right, LOGO[1] - down, 1)
        normal = np.array([rng.uniform(-0.3, 0.3), 1, rng.uniform(-0.1, 0.4)])
        sizes = {"way": way, "smeared": way == SMEARED, "radius": rng.uniform(0.085, 0.17)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.012, 0.032)
    else:
        raise ValueError(f"the shoe has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_loss(rng):
    """An eyelet or a vent torn out, a stretch of lace gone, or the heel's tab gone."""
    part = int(rng.choice([TAB_LOST, RING, STRETCH], p=(0.15, 0.2, 0.65)))
    sizes = {"part": part}
    if part == RING:
        which = int(rng.integers(len(EYELETS) + len(VENTS)))
        sizes |= {"which": which, "radius": rng.uniform(0.034, 0.042)}
        if which < len(EYELETS):
            x, side = EYELETS[which]
            centre = above(x, MIDDLE + side * ASIDE)
            normal = np.array([0.5, 0.4 * side, 1])
        else:
            centre = on_side(*VENTS[which - len(EYELETS)], -1)
            normal = np.array([0.1, -1, 0.3])
    elif part == STRETCH:
        strand = int(rng.integers(STRANDS))
        share = rng.uniform(0.5, 1)
        start = rng.uniform(0, 1 - share)
        path = strands()[strand]
        sizes |= {"strand": strand, "start": start, "end": start + share}
        centre = path[int((start + share / 2) * (len(path) - 1))]
        normal = np.array([0.5, rng.uniform(-0.5, 0.5), 1])
    else:
        centre = np.array([-0.90, 0, sum(TAB[1]) / 2])
        normal = np.array([-1, rng.uniform(-0.5, 0.5), 0.3])
    return described("missing", centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(of, rng):
    """A point of one of the parts `of`, seen across or along the shoe or from above; its normal."""
    while True:
        axis = int(rng.choice(3, p=(0.2, 0.5, 0.3)))
        ahead = np.eye(3)[axis] * (1 if axis == 2 else rng.choice([-1, 1]))
        start = rng.uniform((-0.9, -0.3, -0.3), (0.9, 0.3, 0.25))
        start[axis] = 0
        met = first_met(start + np.linspace(1, -1, 801)[:, None] * ahead, parts, distance)
        if met is not None and met[0] in of and met[2] @ ahead > 0.55:
            return met[1:]


def mesh(defect: dict | None = None) -> Mesh:
    """The shoe's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    flat, form = z - rise(x), form_distance(x, y, z)
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    solid.normals = unit(solid.normals)
    mottle, grain = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 45, 3, 3)
    rough = np.stack([fractal_noise_3d(points, 60, seed, 2) for seed in (4, 5, 6)], 1)
    outer = form > -0.02
    _weave(solid, look, points, part, outer)
    nap = part == SUEDE
    look[nap, :3] *= (1 + 0.10 * mottle + 0.09 * grain)[nap, None]
    solid.normals[nap] += 0.12 * rough[nap]
    soft = np.isin(part, (PADDING, INSOLE))
    look[soft, :3] *= (1 + 0.05 * mottle + 0.10 * grain)[soft, None]
    solid.normals[soft] += 0.05 * rough[soft]
    rubber = np.isin(part, (SOLE, TREAD))
    look[rubber, :3] *= (1 + 0.03 * mottle + 0.015 * grain)[rubber, None]
    level, outside = unbent(x, y, flat, outline_distance(x, y), defect)
    look[(part == SOLE) & (np.abs(level + 0.200) < 0.006) & (outside > -0.015), :3] = INKS[1]
    lining = (part == FABRIC) & (form < -0.75 * SHELL) & (flat > WELT)
    look[lining] = LOOKS[PADDING]
    edge = suede_distance(x, y, flat)
    dash = np.sin(2 * np.pi * (x + 0.6 * flat * np.sign(y)) / 0.034) > -0.35
    sewn = (nap & (np.abs(edge + 0.020) < 0.0055)) | (nap & (np.abs(edge + 0.042) < 0.0055))
    sewn &= outer & (throat_distance(x, y) > 0.008) & (collar_distance(x, flat) < -0.02)
    look[sewn & dash, :3] = THREAD
    half, (low, high), _ = TAB
    frame = box(y, z - (low + high) / 2, 0 * y, (half - 0.013, (high - low) / 2 - 0.013, 1), 0.015)
    sewn = (part == LOOP) & (np.abs(frame) < 0.005) & (np.sin(2 * np.pi * (y + z) / 0.03) > -0.3)
    look[sewn, :3] = THREAD
    tree, lengths, tips = lace_tree(lost_stretch(defect))
    cord = part == LACES
    nearest = tree.query(points[cord])[1]
    braid = np.sin(2 * np.pi * lengths[nearest] / 0.020) * np.sin(40 * np.pi * (y - z)[cord])
    look[cord, :3] *= (1 + 0.14 * braid + 0.05 * grain[cord])[:, None]
    look[np.flatnonzero(cord)[tips[nearest]]] = (*TIP, 0, 0.3)
    ink = inked(points, part, defect)
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1] * (1 + 0.05 * grain[ink > 0, None])
    look[ink > 0, 4] = 0.6
    if defect:
        _spoil(look, points, part, form, defect)
    return solid.painted(look)


def _weave(solid, look, points, part, outer) -> None:
    """Threads of upper and tongue: their colour in `look` [N, 5] and their bumps in the normals."""
    woven = (part == FABRIC) & outer | (part == FLAP)
    x, y, z = points[woven].T
    y, z = y - MIDDLE, z - WELT + 0.05
    reach = np.hypot(y, z)
    pitch = 0.034
    a, b = 2 * np.pi * x / pitch, 2 * np.pi * 0.30 * np.arctan2(y, z) / pitch
    bump = np.cos(a) * np.cos(b)
    noise = fractal_noise_3d(points[woven], 25, 8, 3)
    fade = 1 + 0.24 * bump + 0.07 * noise
    look[woven, :3] *= fade[:, None]
    look[woven, :3] += (0.035 * (bump > 0.35))[:, None]  # the lighter of two yarns
    round_ = np.stack([0 * x, z / reach, -y / reach], 1)
    slope = np.sin(a) * np.cos(b), np.cos(a) * np.sin(b)
    solid.normals[woven] += 0.30 * (slope[0][:, None] * [1, 0, 0] + slope[1][:, None] * round_)


def _spoil(look, points, part, form, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    upper = np.isin(part, (FABRIC, SUEDE, PADDING, LOOP))
    if kind == "cut":
        near = slit_distance(x, y, z, defect) < 0.004
        inner = form < np.where(part == SUEDE, 0.006, -0.008)
        look[near & upper & inner] = (*FOAM, 0, 0.95)
        frayed = near & upper & ~inner
        look[frayed, :3] += 0.5 * (np.array(TORN) - look[frayed, :3])
    if kind == "missing" and defect["part"] == RING:
        _, holes = rings_and_holes(x, y, z - rise(x), form, defect)
        look[(holes < 0.007) & upper & (form > -0.03)] = (*TORN, 0, 0.95)
    if kind == "missing" and defect["part"] == STRETCH:
        ends = np.array([defect["start"], defect["end"]])
        path = strands()[int(defect["strand"])]
        for end in path[(ends * (len(path) - 1)).round().astype(int)]:
            frayed = (part == LACES) & (np.linalg.norm(points - end, axis=1) < 1.4 * LACE)
            look[frayed, :3] = TORN
    if kind == "missing" and defect["part"] == TAB_LOST:
        half, (low, high), _ = TAB
        where = (np.abs(y) < half - 0.01) & (z > low + 0.01) & (x < -0.6) & (form > -0.06)
        shown = where & np.isin(part, (FABRIC, SUEDE)) & (form > -0.01)
        look[shown, :3] += 0.35 * (np.array(CEMENT) - look[shown, :3])
    if kind == "peeled":
        bare = (peeled(x, y, defect) > 0.05) & (z - rise(x) < LIP - 0.004)
        glued = smoothstep(0.6 + 0.6 * fractal_noise_3d(points, 18, defect["seed"], 3))
        under = bare & np.isin(part, (FABRIC, SUEDE))
        inside = (part == SOLE) & (peeled(x, y, defect) > 0.05) & (form < 2.2 * defect["gap"])
        inside &= outline_distance(x, y) < -0.012
        look[inside, :3] = DIRT
        look[under, :3] += 0.8 * glued[under, None] * (np.array(CEMENT) - look[under, :3])
    if kind == "stain":
        _spill(look, points, defect)


def _spill(look, points, defect) -> None:
    """Mud in splashes; glue, oil and ink in spots, glue and oil a little run."""
    of, away = int(defect["of"]), points - np.array(defect["centre"])
    normal = unit(np.array(defect["normal"]))
    along, across, deep = (away @ v for v in (*face_axes(normal, defect["angle"]), normal))
    near = np.sqrt((along / 1.25) ** 2 + (across / 0.8) ** 2 + (0.6 * deep) ** 2)
    near = near / defect["radius"] + 0.17 * fractal_noise_3d(points, 11, defect["seed"], 2)
    near = near + 0.13 * fractal_noise_3d(points, 31, defect["seed"] + 2, 3)
    cover = smoothstep((1 - near) / (0.12 if of in (GLUE, INK) else 0.25))
    if of == MUD:
        speckled = smoothstep(0.9 + 0.8 * fractal_noise_3d(points, 38, defect["seed"] + 1, 3))
        cover = cover * speckled
    cover = (defect["cover"] * cover * (np.abs(deep) < 0.12))[:, None]
    *colour, roughness = SPILT[of]
    look += cover * (np.array([*colour, 0, roughness]) - look)


def inked(points, part, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] that belong to parts [N]: 0 or 1 + index in INKS, [N]."""
    ink, (x, y, z) = np.zeros(len(points), int), points.T
    form = form_distance(x, y, z)
    where = (part == FABRIC) & (y > 0.05) & (form > -0.01)
    misprint = defect if defect and defect["kind"] == "misprint" else None

    def logo(places):
        at = (places - [-LOGO[0], -LOGO[1]] + HALF_LOGO) * PX
        return picked(_logo_image(), *at.T)

    axes = ((-1, 0, 0), (0, 0, -1))
    moved = misprint if misprint and misprint["way"] != LEFT_OUT else None
    ink[where] = inked_face(logo, points[where], axes, moved)
    if misprint and moved is None:
        away = np.hypot(x - misprint["centre"][0], z - misprint["centre"][2]) / misprint["radius"]
        ragged = 0.15 * fractal_noise_3d(points, 16, misprint["seed"], 3)
        ink[where & (away + ragged < 0.9)] = 0
    where = (part == FLAP) & (form > -TONGUE[3])
    at = np.stack([y - BADGE[1] + HALF_BADGE[0], x - BADGE[0] + HALF_BADGE[1]], 1)[where] * PX
    ink[where] = picked(_badge_image(), *at.T)
    return ink


@cache
def _logo_image() -> np.ndarray:
    """What is printed on the outer side, bare at the edges, [rows, columns]."""
    canvas = Canvas(HALF_LOGO, PX)

    def slanted(left, right, top, bottom, ink):
        lean = 0.55
        corners = ((left, bottom), (right, bottom), (right, top), (left, top))
        places = [tuple(canvas.px(a - lean * (b - 0.02), b)) for a, b in corners]
        canvas.draw.polygon(places, ink)

    for k in range(4):  # bars of growing height, the last one of the other ink
        slanted(-0.19 + 0.08 * k, -0.14 + 0.08 * k, 0.0 - 0.033 * k, 0.02, 2 if k == 3 else 1)
    canvas.disc(0.165, -0.075, 0.034, 1)
    canvas.disc(0.165, -0.075, 0.018, 0)
    canvas.write(-0.01, 0.078, 44, 1, "VARRO")
    return canvas.inks()


@cache
def _badge_image() -> np.ndarray:
    """The label on the tongue, as it is read from the toe, [rows, columns]."""
    canvas = Canvas(HALF_BADGE, PX)
    half_y, half_x = HALF_BADGE
    canvas.rectangle(0.006 - half_y, 0.006 - half_x, half_y - 0.006, half_x - 0.006, 1)
    canvas.write(0, 0, 21, 2, "VARRO")
    return np.pad(canvas.inks(), 2)
