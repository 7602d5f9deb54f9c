"""The folders of a run: where each stage reads and writes, and the lock that keeps runs apart."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from piad.poses import PoseStore
from piad.scenes import class_folder
from piad.stage import Stage

if TYPE_CHECKING:
    from piad.config import Config
    from piad.views import Scene

LOCK = ".lock"


class RunFolder:
    """Paths of one class's run, and its poses.

    root: `output/N`; reflection: `reflection/<dataset>/N`; results: `AD_result/N`; photographs:
    `output/N/query`, of those judged alone; cache: for descriptors and the like, safe to remove.
    Use as a context manager, or `close` to let others in.
    """

    def __init__(self, cfg: Config) -> None:
        name = cfg.class_name
        dataset = class_folder(cfg.data, name).resolve().parent.name
        self.class_name = name
        self.root = Path(cfg.output_dir) / name
        self.reflection = Path(cfg.reflection_dir) / dataset / name
        self.results = Path(cfg.result_dir) / name
        self.photographs = self.root / "query"
        self.cache = self.root / "cache"
        self._models = {
            "colour": Path(cfg.ckpt_dir) / (cfg.ckpt_name or name),
            "reflectance": Path(cfg.reflectance_ckpt_dir) / (cfg.ckpt_name or name),
        }
        self._lock: IO[str] | None = None
        self.poses: PoseStore

    @classmethod
    def open(cls, cfg: Config) -> RunFolder:
        """The run of a class, locked.

        pose_estimation.py writes its resolved settings to `config.txt`; AUROC_TEST.py needs the
        poses to be there. Photographs alone have poses of their own and leave a `config.txt` that
        is there as it is. An unknown class leaves nothing behind.
        """
        run = cls(cfg)
        if cfg.script == "test" and not (run.root / "poses.json").is_file():
            raise UserError(
                f"no poses.json in {run.root}; run first: python pose_estimation.py --config "
                f"configs/<dataset>/{run.class_name}.txt --class_name {run.class_name}"
            )
        for photo in cfg.query:
            if photo.resolve().is_relative_to(run.photographs.resolve()):
                raise UserError(
                    f"{photo} lies in {run.photographs}, where results are written over; "
                    "move the photograph out"
                )
        run.root.mkdir(parents=True, exist_ok=True)
        run._lock = _lock(run.root / LOCK, run.class_name)
        try:
            folder = run.photographs if cfg.query else run.root
            run.poses = PoseStore(folder / "poses.json", run.class_name)
            if cfg.script == "pose" and not (cfg.query and (run.root / "config.txt").is_file()):
                with atomic_path(run.root / "config.txt") as temporary:
                    temporary.write_text(cfg.to_text(), encoding="utf-8")
        except BaseException:
            run.close()
            raise
        return run

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes work on the class; the end of the process does the same."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def gaussians(self, name: str) -> Path:
        """Folder of the model `colour` or `reflectance`: `ckpts/N`, `Rckpts/N`."""
        return self._models[name]

    def stage(
        self, name: str, folder: Path, depends: Mapping[str, Any], products: tuple[Path, ...] = ()
    ) -> Stage:
        """A stage of this run whose products lie in `folder`."""
        return Stage(f"{self.class_name} {name}", folder, depends, products)

    def query_folders(self, scene: Scene) -> dict[str, Path]:
        """{query id: `output/N/N_<i>`}; i counts over types, then files, both sorted by name.

        A photograph alone has `output/N/query/<stem>`.
        """
        ordered = sorted(scene.queries, key=lambda query: (query.type, query.path.name))
        return {
            query.id: self.photographs / query.stem
            if query.alone
            else self.root / f"{self.class_name}_{index}"
            for index, query in enumerate(ordered)
        }


def _lock(path: Path, class_name: str) -> IO[str]:
    """Lock a file for this process; the kernel frees it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows; there two runs on one class are the user's care
        return path.open("a+")
    handle = path.open("a+")
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        handle.seek(0)
        owner = handle.read().strip() or "another process"
        handle.close()
        raise UserError(
            f"class {class_name} is being worked on by {owner} (lock {path}); wait for it or "
            "stop it"
        ) from None
    except OSError:
        return handle  # some network file systems have no locks
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}")
    handle.flush()
    return handle
