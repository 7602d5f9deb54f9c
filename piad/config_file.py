"""Config text files: `key = value` lines, each value remembered with its file and line."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from configargparse import ConfigFileParserException, DefaultConfigFileParser

from gaussian_renderer.errors import UserError

BASE_NAME = "_base.txt"


@dataclass(frozen=True)
class Entry:
    """A value as written, and where: `configs/MIP/Can.txt, line 2` or `--iterations`."""

    value: str
    where: str


def read_config_file(path: Path) -> dict[str, Entry]:
    """{key: entry} of a file in configargparse's format, keys as written."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(_no_file(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the config {path} ({error}); it must be text") from error
    entries: dict[str, Entry] = {}
    parser = DefaultConfigFileParser()
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            items = parser.parse(io.StringIO(line))
        except ConfigFileParserException:
            raise UserError(
                f"{where}: a config line must read key = value, got {line.strip()!r}; correct it"
            ) from None
        for key, value in items.items():
            key = key.removeprefix("--")
            if key in entries:
                raise UserError(
                    f"{where}: {key} is given twice (first in {entries[key].where}); remove one"
                )
            entries[key] = Entry(value if isinstance(value, str) else str(value), where)
    return entries


def read_layers(path: Path) -> list[dict[str, Entry]]:
    """The files that make a config, lowest first.

    Below a config lies the file beside it that its key `base` names, else `_base.txt` if there.
    """
    layers: list[dict[str, Entry]] = []
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following in seen:
            raise UserError(f"{seen[-1]} names {following} as its base, in a circle; remove one")
        seen.append(following)
        entries = read_config_file(following)
        layers.insert(0, entries)
        following = _base_of(following, entries.pop("base", None))
    return layers


def _base_of(path: Path, named: Entry | None) -> Path | None:
    if named is not None:
        base = path.parent / named.value
        if not base.is_file():
            raise UserError(f"{named.where}: no file {base} to build on; correct base")
        return base
    base = path.parent / BASE_NAME
    return base if base.is_file() and path.name != BASE_NAME else None


def _no_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"no folder {path.parent} for the config {path.name}; correct --config"
    there = sorted(p.name for p in path.parent.glob("*.txt") if not p.name.startswith("_"))
    listed = ", ".join(there[:60]) if there else "none"
    return f"no config {path}; there are: {listed}; correct --config or write {path.name}"
