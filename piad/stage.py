"""Stages: work that is done once, and known as done only by a marker written last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaussian_renderer.files import write_json

MARKER = "stage.json"


@dataclass(frozen=True, eq=False)
class Stage:
    """A folder of products, and what they depend on.

    Attributes:
        name: for messages.
        folder: where products and marker lie; other files in it are the stage's own too.
        depends: settings and input digests, JSON scalars by name. When one of them changes, the
            products are made again.
        products: files that must be there for the stage to count as done.
    """

    name: str
    folder: Path
    depends: Mapping[str, Any]
    products: tuple[Path, ...] = ()

    @property
    def marker(self) -> Path:
        """The file that says whether the stage is done, and with which settings."""
        return self.folder / MARKER

    def is_done(self) -> bool:
        """Whether the products are there, whole, and made from the same settings and inputs."""
        marker = self._read()
        if not marker.get("done"):
            return False
        if changes := self._changes(marker):
            print(f"{self.name}: {changes}; doing it again")
            return False
        missing = [path for path in self.products if not path.is_file()]
        if missing:
            print(f"{self.name}: {missing[0]} is gone; doing it again")
            return False
        return True

    def begin(self) -> None:
        """Start or go on. What a run with other settings left in the folder is removed first.

        A folder without a marker is left as it is: its files are the user's.
        """
        marker = self._read()
        if marker and self._changes(marker):
            # the marker goes last, so that a removal that was stopped is taken up again
            for path in self.folder.iterdir():
                if path != self.marker:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_json(self.marker, {"stage": self.name, "done": False, "depends": self._depends})

    def finish(self, **results: Any) -> None:
        """Mark the stage done; `results` are kept in the marker."""
        content = {"stage": self.name, "done": True, "depends": self._depends, "results": results}
        write_json(self.marker, content)

    @property
    def results(self) -> dict[str, Any]:
        """What `finish` was given; empty before."""
        return self._read().get("results", {})

    @property
    def _depends(self) -> dict[str, Any]:
        return json.loads(json.dumps(dict(self.depends)))  # as it reads back: tuples are lists

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.marker.read_text())
        except (OSError, ValueError):
            return {}  # no marker, or one that is no JSON: not done
        fits = isinstance(content, dict) and isinstance(content.get("depends"), dict)
        return content if fits else {}

    def _changes(self, marker: dict[str, Any]) -> str:
        """The first difference of settings, for people; empty when there is none."""
        old, new = marker["depends"], self._depends
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                return f"{key} changed from {old.get(key)} to {new.get(key)}"
        return ""
