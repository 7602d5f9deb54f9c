"""A wristwatch: brushed steel, lacquered dial with applied indices, stitched strap; its defects.

The dial looks along -y with twelve up, the crown points along x; the strap is closed to an oval.
"""

import numpy as np

from .marks import described, first_met, solid_with_parts
from .mesh import Mesh, unit
from .watch_look import BLOOM, GLUE, INK, TIDE, head_look, spoil, strap_look
from .watch_parts import (
    A_HAND,
    AN_INDEX,
    BUCKLE,
    CASE,
    CROWN,
    CROWN_OUT,
    DIAL,
    FRAME,
    HANDS,
    HEAD_GRID,
    HOUR,
    INDICES,
    KEEPERS,
    KEEPING,
    LID,
    LIFT,
    LONG,
    LOOSE,
    NICK,
    PIECES,
    PLATE,
    PRONG,
    RING,
    SECOND,
    SHORT,
    SLIT,
    STRAP_GRID,
    SUB,
    THE_CROWN,
    THE_KEEPER,
    THE_PRONG,
    THICK,
    TIP,
    distance,
    half_width,
    head_distance,
    head_parts,
    index_place,
    on_piece,
    on_strap,
    parts,
    strap_distance,
    strap_length,
    strap_parts,
)

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0004, "skewed": 0.0005, "scratch": 0.0006, "stain": 0.0015}
SMALLEST_MASK |= {"cut": 0.0006}
STAINED = {  # the parts that a stain may be on
    TIDE: PIECES,
    INK: (*PIECES, KEEPING),
    GLUE: (*PIECES, PLATE, CASE, LID),
    BLOOM: (PLATE,),
}


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, skewed, scratch, stain, cut)."""
    if kind == "missing":
        centre, normal, sizes = _random_loss(rng)
    elif kind == "skewed":
        centre, normal, sizes = _random_skew(rng)
    elif kind == "scratch":  # on metal, lacquer or leather
        centre, normal = _place((CASE, RING, PLATE, PLATE, LID, *PIECES, BUCKLE), rng)
        sizes = {"length": rng.uniform(0.12, 0.26), "width": rng.uniform(0.009, 0.015)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":
        of = int(rng.choice(4, p=(0.3, 0.25, 0.25, 0.2)))
        centre, normal = _place(STAINED[of], rng, aside=0.17)
        sizes = {"of": of, "radius": rng.uniform(0.065, 0.125), "cover": rng.uniform(0.7, 0.97)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "cut":
        centre, normal, sizes = _random_cut(rng)
    else:
        raise ValueError(f"the watch has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_loss(rng):
    """Centre, normal, sizes: an index, a hand, the crown, the loose keeper or the prong is gone."""
    what = int(rng.choice(5, p=(0.35, 0.25, 0.15, 0.15, 0.10)))
    lean = rng.uniform(-0.2, 0.2, 2)
    part, normal = 0, np.array([lean[0], -1, lean[1]])
    if what == AN_INDEX:
        part = int(rng.integers(len(INDICES)))
        right, up = index_place(part)
        centre = right, -DIAL[2], up
    elif what == A_HAND:
        part = int(rng.integers(len(HANDS)))
        centre = _on_hand(part, 0.5)
    elif what == THE_CROWN:
        centre, normal = (CROWN[2], -CROWN_OUT, 0), np.array([1, lean[0] - 0.2, lean[1]])
    else:
        s = KEEPERS[LOOSE][0] if what == THE_KEEPER else (PRONG[0][0] + PRONG[1][0]) / 2
        centre, out = on_strap(s, 0, 2 * LIFT if what == THE_PRONG else LIFT)
        normal = out + [lean[0], 0, lean[1]]
    return centre, normal, {"what": what, "part": part}


def _random_skew(rng):
    """Centre, normal, sizes: an index, a hand, the crown or the loose keeper is out of place."""
    what = int(rng.choice(4, p=(0.3, 0.3, 0.2, 0.2)))
    lean, turned = rng.uniform(-0.2, 0.2, 2), rng.choice([-1, 1])
    normal, sizes = np.array([lean[0], -1, lean[1]]), {"what": what, "part": 0}
    if what == AN_INDEX:  # come loose, lies on the dial
        sizes["part"] = part = int(rng.integers(len(INDICES)))
        right, up = index_place(part)
        centre, inwards = (right, -DIAL[2], up), rng.uniform(0, 0.12)
        sizes |= {"angle": turned * rng.uniform(0.35, 1.4)}
        sizes |= {"right": -inwards * right, "up": -inwards * up}
    elif what == A_HAND:  # kinked
        sizes["part"] = part = int(rng.integers(HOUR, SECOND))
        sizes |= {"angle": turned * rng.uniform(0.3, 0.65), "from": rng.uniform(0.3, 0.5)}
        sizes |= {"rise": rng.uniform(0, 0.25)}
        centre = _on_hand(part, 0.75)
    elif what == THE_CROWN:  # pulled out, the stem bent
        sizes |= {"angle": rng.uniform(0.16, 0.38), "towards": rng.uniform(-np.pi, np.pi)}
        sizes["pulled"] = rng.uniform(0.015, 0.05)
        centre, normal = (CROWN[2], -CROWN_OUT, 0), np.array([lean[0], -1, lean[1]])
        normal = normal + [rng.uniform(0, 1), 0, 0]
    else:  # slid along and twisted
        sizes |= {"angle": turned * rng.uniform(0.14, 0.32), "shift": rng.uniform(-0.07, 0.12)}
        centre, out = on_strap(KEEPERS[LOOSE][0] + sizes["shift"], 0, 2 * LIFT)
        normal = out + [lean[0], 0, lean[1]]
    return centre, normal, sizes


def _random_cut(rng):
    """Centre, normal, sizes: a slit in the strap, a bite out of its edge, or an open seam."""
    way, side = int(rng.choice(3, p=(0.4, 0.25, 0.35))), int(rng.choice([-1, 1]))
    sizes = {"way": way, "side": side}
    while True:
        s, x = rng.uniform(0.12, strap_length() - 0.12), rng.uniform(-0.14, 0.14)
        piece = LONG if s > TIP + 0.2 else SHORT
        along, level = on_piece(piece, s, 0)
        free = all(abs(s - middle) > wide + 0.12 for middle, wide in KEEPERS)
        if free and (way == SLIT or abs(s - FRAME[0]) > FRAME[1] + 0.12):
            break
    if way != SLIT:
        x = side * half_width(along)
    centre, out = on_strap(s, x, THICK - level)
    normal = out + [rng.uniform(-0.4, 0.4) if way == SLIT else side * rng.uniform(0.3, 1.2), 0, 0]
    sizes |= {"piece": piece, "along": along, "x": x, "angle": rng.uniform(0, np.pi)}
    if way == SLIT:
        sizes |= {"length": rng.uniform(0.07, 0.15), "width": rng.uniform(0.010, 0.019)}
    elif way == NICK:
        sizes |= {"radius": rng.uniform(0.045, 0.08), "stretch": rng.uniform(0.8, 1.6)}
    else:
        sizes |= {"length": rng.uniform(0.14, 0.26), "gape": rng.uniform(0.022, 0.05)}
    return centre, normal, sizes


def _on_hand(hand: int, share: float):
    """World place on a hand, a share of its length from its axis, [3]."""
    turn, length, *_, top = HANDS[hand]
    up = SUB[0] if hand == SECOND else 0
    along = share * length
    return along * np.sin(turn), -top, up + along * np.cos(turn)


def _place(of, rng, aside=0.3):
    """A point of one of the parts `of`, drawn first, seen straight on; its normal there.

    Args:
        aside: farthest from the middle of the strap, if it is there.
    """
    part = rng.choice(of)
    while True:
        if part in PIECES or part in (KEEPING, BUCKLE):
            s, x = rng.uniform(0, strap_length()), rng.uniform(-aside, aside)
            way = on_strap(s, x, rng.choice([1, 1, -1]) * np.linspace(0.3, -0.3, 401))[0]
        else:
            axis = 1 if part != CASE else int(rng.integers(3))
            way = np.tile(rng.uniform((-0.5, -0.6, -0.6), (0.5, -0.4, 0.6)), (801, 1))
            side = -1 if axis == 1 and part != LID else rng.choice([-1, 1])
            way[:, axis] = side * np.linspace(0.8, -0.8, 801)
            if part == LID:
                way[:, 1] = np.linspace(-0.2, -0.7, 801)
        met = first_met(way, parts, distance)
        if met is not None and met[0] == part and met[2] @ unit(way[0] - way[-1]) > 0.8:
            return met[1:]


def mesh(defect: dict | None = None) -> Mesh:
    """The watch's surface with colour, metallic and roughness per vertex."""
    head, points, part = solid_with_parts(head_distance, head_parts, HEAD_GRID, defect)
    strap, more, which = solid_with_parts(strap_distance, strap_parts, STRAP_GRID, defect)
    head.normals, strap.normals = unit(head.normals), unit(strap.normals)
    look = np.vstack(
        [head_look(head, points, part, defect), strap_look(strap, more, which, defect)]
    )
    points, part = np.vstack([points, more]), np.concatenate([part, which + PIECES[0]])
    if defect:
        spoil(look, points, part, defect)
    whole = Mesh(
        np.vstack([head.vertices, strap.vertices]),
        np.vstack([head.faces, strap.faces + np.uint32(len(head.vertices))]),
        np.vstack([head.normals, strap.normals]),
    )
    return whole.painted(look, least_roughness=0.08)
