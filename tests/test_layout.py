"""The repository's layout: who may import whom, what importing does, which configs there are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from piad.config import PoseConfig

ROOT = Path(__file__).parents[1]
# package: the packages of ours that it may import
MAY_IMPORT = {
    "pose_rasterizer": set(),
    "EfficientLoFTR": set(),
    "gaussian_renderer": {"pose_rasterizer"},
    "retrieval": {"gaussian_renderer", "EfficientLoFTR"},
    "piad": {"retrieval", "gaussian_renderer"},
}
SOURCES = {name: ROOT / name for name in MAY_IMPORT} | {
    "pose_rasterizer": ROOT / "submodules" / "pose_rasterizer" / "pose_rasterizer"
}
FILES = [(name, path) for name, top in SOURCES.items() for path in sorted(top.rglob("*.py"))]
SCRIPTS = ("pose_estimation", "AUROC_TEST")
CONFIGS = {"LEGO-3D": 20, "MIP": 16, "MIP-Real": 14}


def imported_packages(source: str) -> set[str]:
    """Top-level names imported anywhere in a module, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_the_scan_sees_every_form_of_import():
    source = "import a.b\nfrom c.d import e\nif 1:\n    def f():\n        import g as h\n"
    assert imported_packages(source) == {"a", "c", "g"}


@pytest.mark.parametrize(("package", "path"), FILES, ids=lambda v: getattr(v, "stem", v))
def test_nothing_imports_upward(package, path):
    ours = set(MAY_IMPORT) | set(SCRIPTS)
    upward = imported_packages(path.read_text()) & ours - MAY_IMPORT[package] - {package}
    assert not upward, f"{path} imports {upward}"


IMPORT_ALL = """
import builtins, importlib, io, os, random, sys
# what other people's packages do at import is not ours: they come before the hook
import numpy, torch, cv2, matplotlib, scipy.ndimage, sklearn.metrics, tqdm, configargparse
ours = sys.argv[1:]
touched = []

def hook(event, args):
    path = os.path.abspath(args[0]) if args and isinstance(args[0], str) else ""
    harmless = path.endswith((".py", ".pyc", ".so")) or "__pycache__" in path or not path
    if not path.startswith(os.getcwd() + os.sep) or harmless:
        return
    if event in ("open", "os.mkdir", "os.remove", "os.rename"):
        touched.append(f"{event} {path}")

numpy_state, torch_state = numpy.random.get_state()[1].copy(), torch.random.get_rng_state()
random_state = random.getstate()
sys.addaudithook(hook)
for name in ours:
    importlib.import_module(name)
assert not touched, touched
assert (numpy.random.get_state()[1] == numpy_state).all()
assert torch.equal(torch.random.get_rng_state(), torch_state) and random.getstate() == random_state
assert not torch.cuda.is_initialized()
"""


def test_importing_touches_no_file_no_seed_and_no_gpu():
    modules = []
    for top in SOURCES.values():
        for path in sorted(top.rglob("*.py")):
            parts = path.relative_to(top.parent).with_suffix("").parts
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *modules], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def class_configs(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / "configs" / folder).glob("*.txt") if p.name[0] != "_")


@pytest.mark.parametrize(("folder", "count"), CONFIGS.items())
def test_there_is_a_config_of_three_lines_for_every_object(folder, count):
    short = [p for p in class_configs(folder) if len(p.read_text().splitlines()) == 3]
    assert len(short) >= count  # a user's own may lie there too
    assert (ROOT / "configs" / folder / "_base.txt").is_file()


@pytest.mark.parametrize("folder", CONFIGS)
def test_every_config_is_read_and_names_its_own_class(folder):
    types = {"LEGO-3D": "MAD", "MIP": "MIP", "MIP-Real": "COLMAP"}
    data = {"LEGO-3D": "data/LEGO-3D", "MIP": "data/MIP", "MIP-Real": "data/Colmap"}
    for path in class_configs(folder):
        cfg = PoseConfig.from_file(path)
        assert (cfg.class_name, cfg.data.dataset_type) == (path.stem, types[folder])
        assert cfg.data.data_dir == data[folder]
