"""Building the back end: cache, fallback, messages."""

import ctypes
import multiprocessing
import os
import sys
import warnings

import pytest
import torch
from pose_rasterizer import BuildError, build, ops

TINY = 'extern "C" __attribute__((visibility("default"))) int answer() { return %d; }\n'


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A back end of one small file in place of csrc, and a cache of its own."""
    csrc = tmp_path / "csrc dir"  # with a space: paths must be escaped
    (csrc / "tiny").mkdir(parents=True)
    (csrc / "tiny" / "tiny.cpp").write_text(TINY % 42)
    monkeypatch.setattr(build, "source_folder", lambda: csrc)
    monkeypatch.setenv("POSE_RASTERIZER_CACHE", str(tmp_path / "cache"))
    return csrc / "tiny" / "tiny.cpp"


def test_library_is_built_once_with_a_message_and_rebuilt_when_a_source_changes(tiny, capfd):
    first = build.build_library("tiny")
    assert capfd.readouterr().err.count("building the tiny back end") == 1
    stamp = first.stat().st_mtime_ns
    assert build.build_library("tiny") == first and first.stat().st_mtime_ns == stamp
    assert capfd.readouterr().err == ""
    tiny.write_text(TINY % 43)
    second = build.build_library("tiny")
    assert second != first
    assert ctypes.CDLL(str(first)).answer() == 42 and ctypes.CDLL(str(second)).answer() == 43
    assert not list(first.parent.glob("build-*"))


def test_broken_source_leaves_a_log_and_no_library(tiny):
    tiny.write_text("this is not C++")
    with pytest.raises(BuildError, match=r"failed; the log is .*\.log"):
        build.build_library("tiny")
    assert not list(build.cache_folder().glob("*.so"))
    assert "error" in next(build.cache_folder().glob("*.log")).read_text()


def test_other_flags_or_processor_make_another_library(tiny, monkeypatch):
    first = build.build_library("tiny")
    monkeypatch.setattr(build, "_processor", lambda: "another")
    assert build.build_library("tiny") != first


def test_cache_that_cannot_be_written_says_so(tiny, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POSE_RASTERIZER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BuildError, match="set POSE_RASTERIZER_CACHE"):
        build.build_library("tiny")


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("POSE_RASTERIZER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "pose_rasterizer"
    monkeypatch.setenv("POSE_RASTERIZER_CACHE", str(tmp_path / "own"))
    assert build.cache_folder() == tmp_path / "own"


def test_two_processes_build_once(tiny, capfd):
    fork = multiprocessing.get_context("fork")  # no second import of torch
    jobs = [fork.Process(target=build.build_library, args=("tiny",)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    assert capfd.readouterr().err.count("building") == 1
    assert len(list(build.cache_folder().glob("*.so"))) == 1


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """No compiler on the path; nothing built or warned about before."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    build._load.cache_clear()
    ops._warn_once.cache_clear()
    yield
    build._load.cache_clear()
    ops._warn_once.cache_clear()


def test_without_a_compiler_it_warns_once_and_runs_on_the_reference(
    no_compiler, make_scene, render
):
    scene = make_scene(20, (12, 12))
    truth = render(scene, "reference").image
    single = {k: v.float() if torch.is_tensor(v) else v for k, v in scene.items()}
    with pytest.warns(RuntimeWarning, match=r"apt-get install g\+\+; running on the slow"):
        out = render(single)
    assert (out.image - truth).abs().max() < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render(single)
    with pytest.raises(BuildError, match=r"no C\+\+ compiler found"):
        render(single, "cpu")


def test_ahead_of_time_build_reports_the_library_or_the_error(capsys, monkeypatch, no_compiler):
    assert build.main() == 2
    assert "apt-get install g++" in capsys.readouterr().err
    monkeypatch.undo()
    build._load.cache_clear()
    assert build.main() == 0
    assert all(os.path.isfile(line) for line in capsys.readouterr().out.splitlines())


def test_compiler_of_the_environment_is_respected(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match="looked for no-such-compiler"):
        build.find_compiler()


def test_ninja_missing_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ninja", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="pip install ninja"):
        build.find_ninja()


def test_sources_are_found_beside_the_package():
    assert (build.source_folder() / "cpu" / "blend.cpp").is_file()
