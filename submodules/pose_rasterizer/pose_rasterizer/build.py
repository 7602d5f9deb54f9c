"""Builds the compiled back ends just in time: C++ sources -> shared library -> ctypes.

The library is kept in a per-user cache under a name made from the sources, the flags, the compiler
and the processor, so it is built once and rebuilt when any of them changes. Ahead of time:
`python -m pose_rasterizer.build`. POSE_RASTERIZER_CACHE moves the cache.
"""

import argparse
import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pose_rasterizer.errors import BuildError

CXX_FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -pthread -ffp-contract=fast -fno-math-errno"
    " -fno-trapping-math -Wno-psabi"
).split()
LINK_FLAGS = ["-shared", "-pthread"]
NATIVE_FLAG = "-march=native"
_lock = threading.Lock()


def source_folder() -> Path:
    """csrc: inside the package when installed, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "csrc", here.parent / "csrc"):
        if (folder / "common" / "schema.h").is_file():
            return folder
    raise BuildError(f"the C++ sources are missing beside {here}; install pose_rasterizer again")


def cache_folder() -> Path:
    """Where libraries are kept: $POSE_RASTERIZER_CACHE, else the user's cache directory."""
    own = os.environ.get("POSE_RASTERIZER_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pose_rasterizer"


def find_compiler() -> str:
    """Path of the C++ compiler: $CXX, else c++, g++ or clang++."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(f"no C++ compiler found (looked for {', '.join(names)}): apt-get install g++")


def find_ninja() -> str:
    """Path of ninja: the Python package's, else the system's."""
    with contextlib.suppress(ImportError):
        import ninja

        path = shutil.which("ninja", path=ninja.BIN_DIR)
        if path:
            return path
    path = shutil.which("ninja")
    if path is None:
        raise BuildError("ninja isn't installed: pip install ninja")
    return path


def _run(command: list[str], **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, **kwargs)


def _flags(compiler: str) -> list[str]:
    """The flags, with those for this very processor where the compiler knows them."""
    probe = [compiler, NATIVE_FLAG, "-x", "c++", "-E", os.devnull]
    return [*CXX_FLAGS, NATIVE_FLAG] if _run(probe).returncode == 0 else list(CXX_FLAGS)


def _processor() -> str:
    """What -march=native depends on (a home folder may be shared between machines)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(
        sorted({ln for ln in lines if ln.startswith(("model name", "flags", "Features"))})
    )


def _key(files: list[Path], *parts: str) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    for part in parts:
        digest.update(b"\0" + part.encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _process_lock(path: Path):
    """Holds a lock on `path` against other processes (where the system has such locks)."""
    with open(path, "w") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ninja_text(compiler: str, flags: list[str], sources: list[Path], library: str) -> str:
    def escape(path) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    lines = [
        "rule compile",
        f"  command = {compiler} {' '.join(flags)} -c $in -o $out",
        "rule link",
        f"  command = {compiler} {' '.join(LINK_FLAGS)} $in -o $out",
    ]
    objects = [f"{source.stem}.o" for source in sources]
    pairs = zip(objects, sources, strict=True)
    lines += [f"build {obj}: compile {escape(source)}" for obj, source in pairs]
    lines += [f"build {library}: link {' '.join(objects)}", f"default {library}"]
    return "\n".join(lines) + "\n"


def _compile(compiler: str, flags: list[str], sources: list[Path], target: Path) -> None:
    """Builds in a folder of its own and moves the finished library to `target`."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
        Path(folder, "build.ninja").write_text(_ninja_text(compiler, flags, sources, target.name))
        done = _run([find_ninja(), "-C", folder])
        if done.returncode != 0:
            log = target.with_suffix(".log")
            log.write_text(done.stdout + done.stderr)
            raise BuildError(f"building {target.stem} with {compiler} failed; the log is {log}")
        os.replace(Path(folder, target.name), target)


def build_library(name: str) -> Path:
    """Path of the back end's shared library; builds it unless the cache has it."""
    csrc = source_folder()
    sources = sorted((csrc / name).glob("*.cpp"))
    headers = [p for f in ("common", name, "fit") for p in sorted((csrc / f).glob("*.h"))]
    compiler = find_compiler()
    flags = _flags(compiler)
    version = _run([compiler, "--version"]).stdout
    key = _key(sources + headers, version, " ".join(flags + LINK_FLAGS), _processor())
    target = cache_folder() / f"pose_rasterizer_{name}-{key}.so"
    return cached(
        target, f"the {name} back end", lambda: _compile(compiler, flags, sources, target)
    )


def cached(target: Path, what: str, compile_target: Callable[[], None]) -> Path:
    """`target`, made by `compile_target` (one process at a time) unless it is there."""
    folder = target.parent
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _process_lock(folder / f"{target.stem}.lock"):
            if not target.is_file():
                print(
                    f"pose_rasterizer: building {what} (once, under a minute) into {folder}",
                    file=sys.stderr,
                    flush=True,
                )
                compile_target()
    except OSError as error:
        raise BuildError(
            f"can't write the build cache {folder} ({error.strerror}); set POSE_RASTERIZER_CACHE"
            " to a folder you can write"
        ) from error
    return target


@functools.cache
def _load(name: str, build: Callable[[str], Path]) -> ctypes.CDLL | BuildError:
    try:
        return ctypes.CDLL(str(build(name)))
    except BuildError as error:
        return error
    except OSError as error:
        return BuildError(f"the {name} back end doesn't load: {error}")


def load_library(name: str, build: Callable[[str], Path] = build_library) -> ctypes.CDLL:
    """The back end's library, built when needed. Raises BuildError (the same one every time)."""
    with _lock:
        found = _load(name, build)
    if isinstance(found, BuildError):
        raise found
    return found


def main(argv: Sequence[str] = ()) -> int:
    """Builds ahead of time and prints where the libraries lie."""
    from pose_rasterizer import build_cuda

    parser = argparse.ArgumentParser(
        prog="python -m pose_rasterizer.build", description=main.__doc__
    )
    parser.add_argument(
        "--cuda-arch", nargs="+", metavar="XY", default=None,
        help="GPU architectures to build the CUDA back end for, e.g. 80 90 (default: those of the"
        " GPUs present; none present: only the CPU back end)",
    )  # fmt: skip
    parser.add_argument(
        "--channels", nargs="+", type=int, default=[3, 6], choices=build_cuda.CHANNELS,
        help="numbers of colour channels to build the CUDA back end for (default: 3 6)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    try:
        print(build_library("cpu"))
        architectures = args.cuda_arch or build_cuda.present_architectures()
        for channels in args.channels if architectures else ():
            print(build_cuda.build_library(channels, architectures))
        if architectures:
            print(build_cuda.build_fit_library(architectures))
            print(build_cuda.build_autograd())
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
