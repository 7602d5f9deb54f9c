"""Builds the CUDA back end with the user's nvcc: one torch-free library per number of channels.

The architectures are those of the GPUs present, so that the build takes seconds. The sources know
neither torch's headers nor its ABI; the library needs only the driver.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from pose_rasterizer import build
from pose_rasterizer.errors import BuildError

CHANNELS = range(1, 9)
OLDEST_CUDA = (11, 8)
NVCC_FLAGS = ["-std=c++17", "-O3", "-shared", "--threads", "0"]
HOST_FLAGS = "-fPIC,-fvisibility=hidden"
NEWEST_GCC = {(11, 8): 11, (12, 0): 12, (12, 4): 13, (12, 8): 14, (13, 0): 15}  # NVIDIA's tables


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def find_nvcc() -> str:
    """Path of nvcc: $CUDA_HOME's or $CUDA_PATH's, else the PATH's, else /usr/local/cuda's."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            path = shutil.which("nvcc", path=str(Path(os.environ[name], "bin")))
            if path:
                return path
    path = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if path is None:
        raise BuildError(
            "no CUDA compiler found (looked for nvcc in $CUDA_HOME/bin, on the PATH and in"
            " /usr/local/cuda/bin): install the CUDA toolkit, 11.8 or newer, or set CUDA_HOME"
        )
    return path


def cuda_version(nvcc: str) -> tuple[int, int]:
    """(major, minor) of the toolkit; raises BuildError where it is too old or doesn't run."""
    found = re.search(r"release (\d+)\.(\d+)", _output([nvcc, "--version"]))
    if found is None:
        raise BuildError(f"{nvcc} --version gives no version; install the CUDA toolkit again")
    version = int(found[1]), int(found[2])
    if version < OLDEST_CUDA:
        raise BuildError(
            f"{nvcc} is CUDA {version[0]}.{version[1]}; the CUDA back end needs"
            f" {OLDEST_CUDA[0]}.{OLDEST_CUDA[1]} or newer: install one and set CUDA_HOME"
        )
    return version


def present_architectures() -> list[str]:
    """Compute capabilities of the GPUs that torch sees, e.g. ["80", "90"]; [] without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = {torch.cuda.get_device_capability(k) for k in range(torch.cuda.device_count())}
    return [f"{major}{minor}" for major, minor in sorted(found)]


def architecture_flags(nvcc: str, architectures: list[str]) -> list[str]:
    """-gencode options; a GPU newer than the toolkit gets its newest intermediate code instead."""
    known = sorted(int(a) for a in re.findall(r"compute_(\d+)", _output([nvcc, "--list-gpu-arch"])))
    if not known:
        raise BuildError(f"{nvcc} --list-gpu-arch names no architecture; install CUDA again")
    flags = set()
    for name in architectures:
        if not str(name).isdigit():
            raise BuildError(f"GPU architecture must be a number such as 80 or 90, found {name!r}")
        number = int(name)
        if number < known[0]:
            raise BuildError(
                f"{nvcc} no longer compiles for GPUs of compute capability {number / 10:.1f} (its"
                f" oldest is {known[0] / 10:.1f}): install an older CUDA toolkit, 11.8 or newer"
            )
        if number in known:
            flags.add(f"-gencode=arch=compute_{number},code=sm_{number}")
        else:
            newest = max(k for k in known if k < number)
            flags.add(f"-gencode=arch=compute_{newest},code=compute_{newest}")
    return sorted(flags)


def host_compiler_flags(version: tuple[int, int]) -> list[str]:
    """-ccbin with a g++ that this toolkit accepts; else the default one, unchecked."""
    own = os.environ.get("NVCC_CCBIN") or os.environ.get("CUDAHOSTCXX")
    if own:
        return ["-ccbin", own]
    newest = max((gcc for cuda, gcc in NEWEST_GCC.items() if cuda <= version), default=11)
    for name in ["g++", *(f"g++-{k}" for k in range(newest, 8, -1))]:
        path = shutil.which(name)
        major = _output([path, "-dumpversion"]).split(".")[0].strip() if path else ""
        if major.isdigit() and int(major) <= newest:
            return ["-ccbin", path]
    if shutil.which("g++") is None:
        raise BuildError(f"no g++ found for nvcc: apt-get install g++-{newest}")
    return ["-allow-unsupported-compiler"]


def _compile(command: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
        made = Path(folder, target.name)
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True)
        if done.returncode != 0:
            log = target.with_suffix(".log")
            log.write_text(" ".join(command) + "\n" + done.stdout + done.stderr)
            raise BuildError(f"building {target.stem} with {command[0]} failed; the log is {log}")
        os.replace(made, target)


def build_library(channels: int, architectures: list[str] | None = None) -> Path:
    """Path of the library for `channels` colours; builds it unless the cache has it."""
    what = f"the CUDA back end for {channels} channels"
    define = f"-DPOSE_CHANNELS={channels}"
    return _build(f"cuda{channels}", what, "cuda/api.cu", ("common", "cuda"), architectures, define)


def build_fit_library(architectures: list[str] | None = None) -> Path:
    """Path of the library of a fit's loss and optimiser; builds it unless the cache has it."""
    what = "the fit's CUDA kernels"
    return _build("fit", what, "fit/fit.cu", ("common", "cuda", "fit"), architectures)


def _build(name, what, source, folders, architectures, *defines: str) -> Path:
    csrc = build.source_folder()
    nvcc = find_nvcc()
    version = cuda_version(nvcc)
    architectures = architectures or present_architectures()
    if not architectures:
        raise BuildError("torch sees no GPU; name the architectures to build for (--cuda-arch 90)")
    flags = [*NVCC_FLAGS, *defines, "-Xcompiler", HOST_FLAGS]
    flags += [*architecture_flags(nvcc, architectures), *host_compiler_flags(version)]
    files = sorted(p for f in folders for p in (csrc / f).iterdir() if p.is_file())
    key = build._key(files, " ".join(flags), str(version))
    target = build.cache_folder() / f"pose_rasterizer_{name}-{key}.so"
    command = [nvcc, *flags, str(csrc / source)]
    return build.cached(target, what, lambda: _compile(command, target))


def build_autograd() -> Path:
    """Path of the autograd glue (csrc/torch), built against this very torch unless it is cached."""
    import torch

    root = Path(torch.__file__).parent
    source = build.source_folder() / "torch" / "autograd.cpp"
    compiler = build.find_compiler()
    includes = [root / "include", root / "include/torch/csrc/api/include"]
    try:
        header = (includes[1] / "torch/all.h").read_text()
    except OSError as error:
        raise BuildError(f"this torch comes without its headers ({error.filename})") from error
    standard = 20 if "__cplusplus < 202002" in header else 17
    flags = f"-std=c++{standard} -O2 -fPIC -shared -fvisibility=hidden".split()
    flags.append(f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}")
    flags += [f"-I{path}" for path in includes]
    links = [f"-L{root / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    files = [*sorted(source.parent.glob("*.h")), source, build.source_folder() / "cuda" / "args.h"]
    version = build._run([compiler, "--version"]).stdout
    key = build._key(files, " ".join(flags), torch.__version__, version)
    target = build.cache_folder() / f"pose_rasterizer_autograd-{key}.so"
    command = [compiler, *flags, str(source), *links]
    what = "the CUDA back end's autograd"
    return build.cached(target, what, lambda: _compile(command, target))


@functools.cache
def _build_named(name: str) -> Path:
    return build_fit_library() if name == "fit" else build_library(int(name))


def load_library(channels: int):
    """The loaded library for `channels` colours and the GPUs present. Raises BuildError."""
    return build.load_library(str(channels), _build_named)


def load_fit_library():
    """The loaded library of a fit's loss and optimiser. Raises BuildError."""
    return build.load_library("fit", _build_named)
