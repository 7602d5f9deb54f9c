"""What both scripts share at the terminal: exit codes, the device, the progress bar."""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

import torch

from gaussian_renderer.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
# failures of the machine that the user can mend, though no check of ours foresees them
MACHINE_ERRORS = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT)
QUIET_INTERVAL_S = 15.0  # between two lines of a progress bar that goes to a file
# glibc's malloc.h: how much freed memory is kept, from what size on none is; and ours, bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGEST_KEPT_BYTES = 1 << 30, 1 << 28

Item = TypeVar("Item")


def run_script(main: Callable[[], object]) -> NoReturn:
    """Run a script's main and exit: 0, 2 for what the user can mend, 130 when interrupted."""
    keep_freed_memory()
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        _leave(f"error: {' '.join(str(error).split())}", EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _leave("stopped; run the same command again to go on from here", EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        _leave(f"error: {error.strerror}{where}; mend that and run again", EXIT_USER_ERROR)
    raise SystemExit(0)


def keep_freed_memory() -> bool:
    """Let glibc reuse images' memory instead of giving it back to the system after each use.

    Fresh pages cost a CPU's comparison a fifth of its time. False under other C libraries.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no such library or function on this system
        return False
    kept = mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(kept and mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES))


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else cpu; any other name must exist on this machine."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}; correct --device")
    count = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device is {name}, but {count} CUDA devices are usable; give --device cpu")
    return device


def progress(items: Iterable[Item], label: str = "", total: int | None = None) -> Iterator[Item]:
    """Iterate with a bar on stderr; a line now and then when stderr is no terminal."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else QUIET_INTERVAL_S
    return iter(tqdm(items, desc=label or None, total=total, mininterval=interval, leave=True))


def _leave(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    print(message, file=sys.stderr)
    raise SystemExit(code)
