"""All settings: one flat set of keys, put together from the parts' own dataclasses.

A part owns its keys. In its module stand a dataclass of scalars, each field with
`metadata={"help": ...}` and, where they apply, `choices` (allowed values), `choice_aliases`
({lower-case spelling: choice}) and `aliases` (other names of the key); and beside the dataclass
`ORIGINAL`, {field: value}, that part's share of `--preset original`. PARTS below lists the parts;
a new key needs no change here.

A value is taken from the last of these that has it: the dataclass default, `_base.txt` beside the
config (or the file that the config's key `base` names), the config, the preset named on the command
line, the command line. A preset named inside a file ranks just below that file's own keys, so that
the config a run wrote can be read again.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gaussian_renderer.errors import UserError
from piad.config_file import Entry, read_config_file, read_layers
from piad.scenes import DataConfig

if TYPE_CHECKING:
    from gaussian_renderer.fit import FitConfig
    from piad.anomaly import DetectConfig
    from piad.models import ModelsConfig
    from piad.refine_config import RefineConfig
    from piad.reflectance import ReflectanceConfig
    from piad.threshold import ThresholdConfig
    from retrieval import InitialPoseConfig

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
PRESET_NAMES = ("default", "original")
FREE_GROUPS = ("run", "detect", "threshold")  # not built into a run's products


@dataclass(frozen=True)
class Part:
    """Where a part's dataclass stands, and which of the two scripts lists its keys in --help."""

    name: str
    module: str
    class_name: str
    scripts: tuple[str, ...]


PARTS = (
    Part("data", "piad.scenes", "DataConfig", ("pose", "test")),
    Part("reflectance", "piad.reflectance", "ReflectanceConfig", ("pose", "test")),
    Part("fit", "gaussian_renderer.fit", "FitConfig", ("pose",)),
    Part("models", "piad.models", "ModelsConfig", ("pose",)),
    Part("initial_pose", "retrieval", "InitialPoseConfig", ("pose",)),
    Part("refine", "piad.refine_config", "RefineConfig", ("pose",)),
    Part("detect", "piad.anomaly", "DetectConfig", ("pose", "test")),
    Part("threshold", "piad.threshold", "ThresholdConfig", ("pose", "test")),
)


def _option(default: Any, text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


def _defaults_of(name: str) -> Any:
    """A field that holds a part's defaults; the part is imported when they are first needed."""
    return field(default_factory=lambda: next(part_class(p) for p in PARTS if p.name == name)())


@dataclass
class RunConfig:
    """What is asked for, and the folders it goes to."""

    class_name: str = _option("", "object to work on", aliases=("obj", "model_name"))
    preset: str = _option(
        "default",
        "set of choices: default, or original (what the paper chose)",
        choices=PRESET_NAMES,
    )
    device: str = _option("auto", "auto (cuda where there is one), cpu, cuda or cuda:N")
    seed: int = _option(0, "seed of every random choice")
    output_dir: str = _option("output", "poses and renderings go to output_dir/class_name")
    reflection_dir: str = _option("reflection", "reflectance images: reflection_dir/dataset/class")
    ckpt_dir: str = _option("ckpts", "folder of the colour models")
    reflectance_ckpt_dir: str = _option("Rckpts", "folder of the reflectance models")
    ckpt_name: str = _option("", "folder below the two; empty: the class name")
    result_dir: str = _option("AD_result", "scores and figures go to result_dir/class_name")


@dataclass
class Config(RunConfig):
    """The settings of a run: those above, and one group per part."""

    data: DataConfig = field(default_factory=DataConfig)
    reflectance: ReflectanceConfig = _defaults_of("reflectance")
    fit: FitConfig = _defaults_of("fit")
    models: ModelsConfig = _defaults_of("models")
    initial_pose: InitialPoseConfig = _defaults_of("initial_pose")
    refine: RefineConfig = _defaults_of("refine")
    detect: DetectConfig = _defaults_of("detect")
    threshold: ThresholdConfig = _defaults_of("threshold")

    # photographs to judge alone; of one call, so neither a key nor written into config.txt
    query: tuple[Path, ...] = ()

    script: ClassVar[str] = ""
    description: ClassVar[str] = ""

    @classmethod
    def from_command_line(cls, argv: Sequence[str] | None = None) -> Config:
        """Settings from the command line and the files it names; `argv` None: sys.argv."""
        options, photographs = _parse_options(cls, argv)
        layers = read_layers(Path(options["config"].value)) if "config" in options else []
        if cls._goes_on(photographs):
            layers = _over_run(layers, options)
        cfg = _resolve(cls, layers, options)
        cfg.query = photographs
        return cfg

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> Config:
        """Settings from a config file, as `--config`; `overrides` go over it."""
        argv = [part for key, value in overrides.items() for part in (f"--{key}", str(value))]
        return cls.from_command_line(["--config", str(path), *argv])

    @classmethod
    def _goes_on(cls, photographs: Sequence[Path]) -> bool:
        """Whether the settings of the run that is there hold (see `_over_run`)."""
        return bool(photographs)

    def values(self) -> dict[str, Any]:
        """{key: value} of every setting, in the order of --help."""
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(RunConfig)}
        for part in PARTS:
            flat |= dataclasses.asdict(getattr(self, part.name))
        return flat

    def to_text(self) -> str:
        """The resolved settings as a file that `--config` reads back to the same values."""
        lines = ["# Settings of this run, complete: usable with --config."]
        groups = [("run", RunConfig, self)]
        groups += [(part.name, type(own := getattr(self, part.name)), own) for part in PARTS]
        for name, kind, owner in groups:
            lines += ["", f"# {name}"]
            lines += [
                f"{f.name} = {_quoted(getattr(owner, f.name))}" for f in dataclasses.fields(kind)
            ]
        return "\n".join(lines) + "\n"


@dataclass
class PoseConfig(Config):
    """Settings of pose_estimation.py."""

    script: ClassVar[str] = "pose"
    description: ClassVar[str] = (
        "Learn an object from its gallery and find the pose of every query photograph."
    )


@dataclass
class TestConfig(Config):
    """Settings of AUROC_TEST.py, over those of the run."""

    __test__ = False  # not a pytest class
    script: ClassVar[str] = "test"
    description: ClassVar[str] = (
        "Compare queries with their renderings and score them. Settings start from those that "
        "pose_estimation.py wrote into output_dir/class_name/config.txt."
    )

    @classmethod
    def _goes_on(cls, photographs: Sequence[Path]) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class Key:
    """A setting: its name, type, group and the field it fills."""

    name: str
    kind: type
    group: str
    field: dataclasses.Field


def part_class(part: Part) -> type:
    """The dataclass of a part."""
    return getattr(importlib.import_module(part.module), part.class_name)


def presets() -> dict[str, dict[str, Any]]:
    """{preset: {key: value}}: `original` is the union of the parts' ORIGINAL."""
    original: dict[str, Any] = {}
    for part in PARTS:
        original |= getattr(importlib.import_module(part.module), "ORIGINAL", {})
    return {"default": {}, "original": original}


def all_keys() -> dict[str, Key]:
    """{name or alias: key} of every setting; TypeError when two parts use one name."""
    keys: dict[str, Key] = {}
    for group, owner in [("run", RunConfig)] + [(part.name, part_class(part)) for part in PARTS]:
        hints = typing.get_type_hints(owner)
        for item in dataclasses.fields(owner):
            if hints[item.name] not in (bool, int, float, str) or "help" not in item.metadata:
                raise TypeError(f"{owner.__name__}.{item.name} must be a scalar with a help text")
            key = Key(item.name, hints[item.name], group, item)
            for name in (item.name, *item.metadata.get("aliases", ())):
                if name in keys:
                    raise TypeError(f"{owner.__name__} and {keys[name].group} both use {name}")
                keys[name] = key
    return keys


def convert(key: Key, entry: Entry) -> Any:
    """The value of an entry in the key's type; UserError naming the place when it does not fit."""
    text = entry.value.strip()
    choices = key.field.metadata.get("choices")
    if choices:
        aliases = {str(choice).lower(): choice for choice in choices}
        aliases |= key.field.metadata.get("choice_aliases", {})
        if text not in map(str, choices) and text.lower() not in aliases:
            listed = ", ".join(map(str, choices))
            raise UserError(f"{entry.where}: {key.name} must be one of {listed}, got {text!r}")
        return key.kind(text if text in map(str, choices) else aliases[text.lower()])
    try:
        return _scalar(key.kind, text)
    except ValueError:
        word = {bool: "True or False", int: "a whole number", float: "a number"}[key.kind]
        raise UserError(
            f"{entry.where}: {key.name} must be {word}, got {text!r}; correct it"
        ) from None


def _scalar(kind: type, text: str) -> Any:
    if kind is bool:
        if text.lower() not in TRUE_WORDS + FALSE_WORDS:
            raise ValueError(text)
        return text.lower() in TRUE_WORDS
    if kind is int:
        number = float(text)  # 3e4 is a whole number too
        if not number.is_integer():
            raise ValueError(text)
        return int(number)
    return kind(text)


def _resolve(cls: type[Config], layers: list[dict[str, Entry]], options: dict[str, Entry]):
    keys = all_keys()
    choices = presets()
    values: dict[str, Any] = {}
    for entries in layers:
        named = _named(keys, entries)
        if "preset" in named:
            values |= choices[convert(keys["preset"], named["preset"])]
        values |= {name: convert(keys[name], entry) for name, entry in named.items()}
    given = {name: entry for name, entry in options.items() if name != "config"}
    if "preset" in given:
        values |= choices[convert(keys["preset"], given["preset"])]
    values |= {name: convert(keys[name], entry) for name, entry in given.items()}
    own = {f.name for f in dataclasses.fields(RunConfig)}
    parts = {}
    for part in PARTS:
        kind = part_class(part)
        names = {f.name for f in dataclasses.fields(kind)}
        parts[part.name] = kind(**{name: values[name] for name in names & values.keys()})
    return cls(**{name: values[name] for name in own & values.keys()}, **parts)


def _over_run(layers: list[dict[str, Entry]], options: dict[str, Entry]) -> list[dict[str, Entry]]:
    """The files' entries over those that pose_estimation.py wrote into the run, lowest first.

    What the run's products were made with (all parts but FREE_GROUPS) ranks over the files too:
    another resolution would not fit them. Without a run the layers stay as they are.
    """
    keys = all_keys()
    named: dict[str, Entry] = {}
    for entries in (*layers, {k: v for k, v in options.items() if k != "config"}):
        named |= _named(keys, entries)
    folder = named["output_dir"].value if "output_dir" in named else RunConfig.output_dir
    written = Path(folder, named["class_name"].value if "class_name" in named else "")
    if "class_name" not in named or not (written / "config.txt").is_file():
        return layers
    run = _named(keys, read_config_file(written / "config.txt"))
    fixed = {k: v for k, v in run.items() if keys[k].group not in FREE_GROUPS}
    return [run, *layers, fixed]


def _named(keys: dict[str, Key], entries: dict[str, Entry]) -> dict[str, Entry]:
    """Entries by the keys' own names; UserError for an unknown key, with the nearest known."""
    named: dict[str, Entry] = {}
    for name, entry in entries.items():
        if name not in keys:
            raise UserError(f"{entry.where}: unknown key {name}; {_nearest(name, keys)}")
        own = keys[name].name
        if own in named and named[own].value != entry.value:
            raise UserError(
                f"{entry.where}: {name} is another name of {own}, which is {named[own].value} "
                f"already ({named[own].where}); remove one"
            )
        named[own] = entry
    return named


def _nearest(name: str, keys: dict[str, Key]) -> str:
    near = difflib.get_close_matches(name, list(keys), 1, 0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}--help lists all keys"


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are UserErrors, so that both scripts speak with one voice."""

    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message}; --help lists all options")


def _parse_options(
    cls: type[Config], argv: Sequence[str] | None
) -> tuple[dict[str, Entry], tuple[Path, ...]]:
    """{key: entry} of the options given on the command line, and the photographs of --query."""
    keys = all_keys()
    parser = _Parser(
        description=cls.description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=100),
    )
    parser.add_argument("--config", metavar="FILE", help="config file, key = value lines")
    if cls.script == "pose":
        parser.add_argument(
            "--query",
            nargs="+",
            action="extend",
            metavar="PHOTO",
            help="judge these photographs instead of the class's queries: pose, heat map, verdict",
        )
    shown = {"run"} | {part.name for part in PARTS if cls.script in part.scripts}
    groups = {name: parser.add_argument_group(name) for name in ["run", *(p.name for p in PARTS)]}
    for key in dict.fromkeys(keys.values()):
        flags = [f"--{name}" for name, other in keys.items() if other is key]
        flag_alone = {"nargs": "?", "const": "True"} if key.kind is bool else {}
        text = _help(key) if key.group in shown else argparse.SUPPRESS
        metavar = key.kind.__name__.upper()
        groups[key.group].add_argument(
            *flags, dest=key.name, help=text, metavar=metavar, **flag_alone
        )
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].split("=")[0]
        hint = _nearest(name.lstrip("-"), keys).replace("did you mean ", "did you mean --")
        raise UserError(f"unknown option {name}; {hint}")
    values = vars(given)
    photographs = tuple(Path(path).expanduser() for path in values.pop("query", ()))
    return {name: Entry(value, f"--{name}") for name, value in values.items()}, photographs


def _quoted(value: Any) -> str:
    """`value` as a config file writes it: quoted where a bare word would read differently."""
    text = str(value)
    plain = text == text.strip() and not set("#;\"'") & set(text)
    return text if plain else f'"{text}"'


def _help(key: Key) -> str:
    text = key.field.metadata["help"].replace("%", "%%")
    default = key.field.default
    return text if default == "" else f"{text} [{default}]"
