"""Exit codes and what the terminal says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import torch

from gaussian_renderer.errors import UserError
from piad.cli import choose_device, progress, run_script


def leave(main) -> int:
    with pytest.raises(SystemExit) as caught:
        run_script(main)
    return caught.value.code


def test_success_exits_0():
    assert leave(lambda: None) == 0


def test_user_errors_exit_2_with_one_line(capsys):
    def main():
        raise UserError("no data in\n  data/MIP")

    assert leave(main) == 2
    assert capsys.readouterr().err == "error: no data in data/MIP\n"


def test_interrupt_exits_130_and_tells_how_to_go_on(capsys):
    def main():
        raise KeyboardInterrupt

    assert leave(main) == 130
    assert "run the same command again to go on" in capsys.readouterr().err


def test_full_disk_is_one_line_but_bugs_keep_their_traceback(capsys):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "output/Can/poses.json")

    def bug():
        raise FileNotFoundError(errno.ENOENT, "gone", "x")

    assert leave(full) == 2
    assert "No space left on device (output/Can/poses.json)" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        run_script(bug)


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu!", "meta", "cuda", "cuda:1"])
def test_devices_that_are_not_there_are_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=name):
        choose_device(name)


def test_existing_cuda_devices_are_taken_by_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="2 CUDA devices"):
        choose_device("cuda:2")


def test_progress_passes_items_through(capsys):
    assert list(progress([1, 2, 3], "queries")) == [1, 2, 3]
    assert "queries" in capsys.readouterr().err


@pytest.mark.parametrize("given", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_idle_threads_spin_briefly_unless_the_user_says_otherwise(given):
    code = (
        "import os, sys, piad; assert 'torch' not in sys.modules\n"  # which reads it once
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True
    )
    wanted = None if "OMP_WAIT_POLICY" in given else given.get("GOMP_SPINCOUNT", "10000")
    assert done.stdout.strip() == str(wanted)


KEPT = """
import gc, platform, sys
import torch
from piad.cli import keep_freed_memory
worked = keep_freed_memory() if sys.argv[1] == "keep" else False
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
torch.ones(1 << 20)
before = resident()
image = torch.ones(25 << 20)
full = resident()
del image
gc.collect()
print(platform.libc_ver()[0], worked, (resident() - before) / (full - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory in use")
def test_freed_memory_is_kept_for_the_next_image():
    found = {}
    for way in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", KEPT, way], capture_output=True, text=True)
        library, worked, share = run.stdout.split()
        found[way] = float(share)
        if library != "glibc":
            pytest.skip("another C library")
        assert worked == str(way == "keep")
    assert found["keep"] > 0.9 and found["leave"] < 0.1
