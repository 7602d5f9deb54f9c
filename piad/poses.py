"""poses.json: what pose_estimation.py hands to AUROC_TEST.py, one record per query."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_json
from piad.transforms import rigid

STATUSES = ("ok", "not_found")
POSE_KEYS = ("start_camera_to_world", "camera_to_world", "rival_camera_to_world")


class PoseStore:
    """The records of poses.json, rewritten whole (atomically) after every query or batch of them.

    Poses are camera_to_world [4, 4] in OpenGL axes, floats in full precision. `header` holds what
    is true of all queries (class name, weights); `add` takes tensors, arrays and plain values.
    """

    def __init__(self, path: Path, class_name: str) -> None:
        self.path = path
        self.header: dict[str, Any] = {"class_name": class_name}
        self._records: dict[str, dict[str, Any]] = {}
        if path.is_file():
            content = _load(path)
            self._records = {record["id"]: record for record in content.pop("queries")}
            self.header = content | self.header

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, query_id: str) -> bool:
        return query_id in self._records

    def __getitem__(self, query_id: str) -> dict[str, Any]:
        """The record of a query; UserError when there is none."""
        if query_id not in self._records:
            raise UserError(
                f"{self.path} has no pose of the query {query_id}; run pose_estimation.py again"
            )
        return self._records[query_id]

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, sorted by query id."""
        return [self._records[key] for key in sorted(self._records)]

    def add(
        self, query_id: str, record: Mapping[str, Any], settings: Any = None, save: bool = True
    ) -> None:
        """Store a query's record; `settings` (JSON scalars) are what it depends on.

        Without `save` the file is written with the next record, or by `save()`.
        """
        plain = {key: _plain(value) for key, value in record.items() if key != "id"}
        stored = {"id": query_id, **plain}
        if settings is not None:
            stored["settings"] = _digest(settings)
        _check_record(stored, self.path)
        self._records[query_id] = stored
        if save:
            self.save()

    def done(self, query_id: str, settings: Any = None) -> bool:
        """Whether a query has a record made with these settings."""
        record = self._records.get(query_id)
        return record is not None and (
            settings is None or record.get("settings") == _digest(settings)
        )

    def keep_only(self, query_ids: Iterable[str]) -> None:
        """Drop the records of queries that are no longer in the scene."""
        wanted = set(query_ids)
        gone = [query_id for query_id in self._records if query_id not in wanted]
        for query_id in gone:
            del self._records[query_id]
        if gone:
            self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, {**self.header, "queries": self.records})


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}); remove it and run pose_estimation.py again"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("queries"), list):
        raise UserError(
            f'{path} must hold a list "queries"; remove it and run pose_estimation.py again'
        )
    seen: set[str] = set()
    for record in content["queries"]:
        _check_record(record, path)
        if record["id"] in seen:
            raise UserError(f"{path} has the query {record['id']} twice; remove one record")
        seen.add(record["id"])
    return content


def _check_record(record: Any, path: Path) -> None:
    """UserError unless the record has id, status and, when found, rigid poses."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise UserError(f'{path}: every record needs an "id"; remove the file and run again')
    if record.get("status") not in STATUSES:
        raise UserError(
            f"{path}: status of {record['id']} must be ok or not_found, got "
            f"{record.get('status')!r}; remove the file and run pose_estimation.py again"
        )
    for key in POSE_KEYS:
        matrix = record.get(key)
        if matrix is None and (key != "camera_to_world" or record["status"] == "not_found"):
            continue
        try:
            rigid(torch.tensor(matrix, dtype=torch.float64))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{path}: {key} of {record['id']} must be a rigid 4 x 4 matrix ({error}); remove "
                "the file and run pose_estimation.py again"
            ) from error


def _plain(value: Any) -> Any:
    """A JSON value: tensors and arrays become lists, numbers that are not finite become null."""
    if isinstance(value, torch.Tensor):
        return _plain(value.detach().cpu().to(torch.float64).tolist())
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _digest(settings: Any) -> str:
    text = json.dumps(_plain(settings), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
