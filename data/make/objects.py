"""The objects by name: geometry, materials, where they stand, how they break, their likenesses."""

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np

from . import damage
from .likeness import Likeness
from .mesh import Mesh, Surface, disc
from .models import read_model
from .render import Stage, textured_material, vertex_material

TABLE_RADIUS = 2.5


@dataclass(frozen=True)
class Kind:
    """Module with the geometry, kinds of defect, and whether the object stands on the table."""

    module: str
    defects: tuple[str, ...]
    on_table: bool = False

    def load(self):
        return import_module(f".{self.module}", __package__)


@dataclass(frozen=True)
class ModelKind:
    """The same of an object that is read from a Wavefront OBJ file (models.read_model)."""

    path: Path
    on_table: bool = False

    @property
    def defects(self) -> tuple[str, ...]:
        return self.load().defects + damage.KINDS

    def load(self):
        return read_model(self.path)


OBJECTS = {
    "Spring": Kind("spring", ("burr", "missing", "bent", "stain")),
    "05Joint": Kind("joint", ("missing", "stain", "crack"), on_table=True),
    "Knob": Kind("knob", ("chip", "scratch", "stain", "misprint")),
    "Bracket": Kind("bracket", ("dent", "missing", "scratch", "plugged")),
    "Jug": Kind("jug", ("chip", "crack", "crawl", "run")),
    "Board": Kind("board", ("missing", "skewed", "bent", "scorch")),
    "Padlock": Kind("padlock", ("scratch", "corrosion", "dent", "missing", "cut")),
    "ToyCar": Kind("toy_car", ("scratch", "chip", "missing", "dent", "misprint")),
    "Gear": Kind("gear", ("missing", "burr", "crack", "stain", "scratch")),
    "Plug": Kind("plug", ("bent", "missing", "scorch", "chip", "misprint")),
    "BrickBird": Kind("brick_bird", ("burr", "missing", "stain", "scratch")),
    "BrickElephant": Kind("brick_elephant", ("burr", "missing", "stain", "scratch", "misprint")),
    "UsbStick": Kind("usb_stick", ("dent", "missing", "bent", "scratch", "misprint")),
    "Bottle": Kind("bottle", ("missing", "dent", "misprint", "scratch", "stain")),
    "Clamp": Kind("clamp", ("missing", "bent", "chip", "crack", "corrosion")),
    "Tap": Kind("tap", ("missing", "dent", "scratch", "corrosion", "bent")),
    "Gamepad": Kind("gamepad", ("missing", "skewed", "misprint", "scratch", "stain")),
    "Glasses": Kind("glasses", ("missing", "bent", "crack", "scratch", "stain")),
    "Caster": Kind("caster", ("missing", "dent", "cut", "scratch", "stain")),
    "Key": Kind("key", ("missing", "burr", "scratch", "chip")),
    "Remote": Kind("remote", ("missing", "skewed", "scratch", "stain", "misprint")),
    "PaperCup": Kind("paper_cup", ("dent", "tear", "stain", "misprint", "missing")),
    "Knight": Kind("knight", ("chip", "crack", "stain", "scratch", "missing")),
    "Shoe": Kind("shoe", ("cut", "stain", "missing", "peeled", "misprint")),
    "Grinder": Kind("grinder", ("missing", "skewed", "crack", "stain", "dent")),
    "Watch": Kind("watch", ("missing", "skewed", "scratch", "stain", "cut")),
    "Fork": Kind("fork", ("missing", "bent", "scratch", "stain", "dent")),
    "Scissors": Kind("scissors", ("missing", "nick", "scratch", "crack", "stain")),
    "Pliers": Kind("pliers", ("missing", "chip", "cut", "corrosion", "scratch")),
    "Can": Kind("can", ("dent", "pull", "scratch", "misprint", "stain")),
    "Hammer": Kind("hammer", ("crack", "missing", "corrosion", "scratch", "label")),
    "Drum": Kind("drum", ("dent", "missing", "scratch", "stain", "tear")),
    "Mug": Kind("mug", ("chip", "crack", "stain", "misprint", "glaze")),
    "Bulb": Kind("bulb", ("dent", "crack", "scorch", "misprint", "missing")),
    "Locomotive": Kind("locomotive", ("missing", "chip", "crack", "stain", "misprint")),
    "Switch": Kind("switch", ("skewed", "missing", "chip", "scratch", "stain")),
    "Nozzle": Kind("nozzle", ("missing", "dent", "scratch", "stain", "cut")),
    "DoorHandle": Kind("door_handle", ("missing", "bent", "dent", "scratch", "stain")),
    "Baseball": Kind("baseball", ("missing", "cut", "scratch", "stain", "misprint")),
    "DogCollar": Kind("dog_collar", ("missing", "bent", "cut", "scratch", "stain")),
    "Headphones": Kind("headphones", ("missing", "crack", "tear", "scratch", "stain")),
    "Fan": Kind("fan", ("bent", "missing", "chip", "misprint", "stain")),
}


def add_models(folder: Path) -> list[str]:
    """Make objects of a folder's OBJ files, named like these; returns the names."""
    paths = sorted(folder.rglob("*.obj"))
    names = [path.stem for path in paths]
    if not paths:
        raise SystemExit(f"error: no file in {folder} ends with .obj; name a folder of OBJ models")
    if twice := {name for name in names if names.count(name) > 1 or name in OBJECTS}:
        raise SystemExit(
            f"error: {folder} has two objects of the names {', '.join(sorted(twice))}; rename one"
        )
    OBJECTS.update((path.stem, ModelKind(path)) for path in paths)
    return names


def build_stage(name: str, defect: dict | None = None, likeness: Likeness | None = None) -> Stage:
    """The object, flawless or with one defect, ready to be lit and rendered.

    Args:
        likeness: what is done to it; for objects with colours per vertex, that float.
    """
    module = OBJECTS[name].load()
    if name == "Spring":
        return Stage([(module.mesh(defect), textured_material(_wire(defect), specular=0.5))])
    options = getattr(module, "MATERIAL", {})
    material = vertex_material(**(likeness.material(options) if likeness else options))
    solid = _mesh(name, defect, likeness), material
    return Stage([solid, _table()], max_depth=5) if name == "05Joint" else Stage([solid])


def random_defect(name: str, kind: str, rng: np.random.Generator, likeness=None) -> dict:
    """Parameters of one of the object's own defects, or of what any object suffers (damage)."""
    if kind in damage.KINDS:
        return damage.random_damage(kind, _flawless(name, likeness), rng)
    return OBJECTS[name].load().random_defect(kind, rng)


def defect_normal(name: str, defect: dict) -> np.ndarray:
    """Direction [3] from which a defect can be seen."""
    if defect["kind"] in damage.KINDS:
        return np.array(defect["normal"])
    return OBJECTS[name].load().defect_normal(defect)


def _mesh(name: str, defect: dict | None, likeness: Likeness | None) -> Mesh:
    if defect is None or defect["kind"] in damage.KINDS:
        flawless = _flawless(name, likeness)
        return damage.damaged(flawless, defect) if defect else flawless
    mesh = OBJECTS[name].load().mesh(defect)
    return likeness.mesh(mesh) if likeness else mesh


@lru_cache(1)
def _flawless(name: str, likeness: Likeness | None) -> Mesh:
    mesh = OBJECTS[name].load().mesh(None)
    return likeness.mesh(mesh) if likeness else mesh


def _wire(defect: dict | None) -> Surface:
    """Only rust shows in the textures; the flawless ones are made once."""
    from . import spring

    return spring.surface(defect) if defect and defect["kind"] == "stain" else _flawless_wire()


@cache
def _flawless_wire() -> Surface:
    from . import spring

    return spring.surface()


@cache
def _table():
    from . import joint

    colour = joint.terrazzo()
    flat = np.ones(colour.shape[:2], np.float32)
    board = textured_material(Surface(colour, 0 * flat, 0.45 * flat), specular=0.4)
    return disc(TABLE_RADIUS, joint.LOWEST), board
