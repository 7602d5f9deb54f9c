"""Building the CUDA back end: for real where nvcc is, and its messages everywhere."""

import shutil
import time

import pytest
from pose_rasterizer import build, build_cuda, cuda
from pose_rasterizer.errors import BuildError


def fake_nvcc(folder, release):
    path = folder / "nvcc"
    path.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] && echo "Cuda compilation tools, release {release}, V{release}.1"\n'
        '[ "$1" = --list-gpu-arch ] && printf "compute_75\\ncompute_80\\ncompute_90\\n"\nexit 0\n'
    )
    path.chmod(0o755)
    return str(path)


def nvcc_or_skip():
    try:
        nvcc = build_cuda.find_nvcc()
        build_cuda.cuda_version(nvcc)
    except BuildError as error:
        pytest.skip(str(error))
    return nvcc


@pytest.mark.parametrize("channels", [3, 8])  # 8 need the most shared memory
def test_kernels_compile_for_sm_80_and_sm_90(tmp_path, monkeypatch, channels):
    nvcc_or_skip()
    monkeypatch.setenv("POSE_RASTERIZER_CACHE", str(tmp_path))
    start = time.process_time()
    path = build_cuda.build_library(channels, ["80", "90"])
    assert path.is_file() and path.stat().st_size > 10_000
    assert time.process_time() - start < 120
    stamp = path.stat().st_mtime_ns
    again = build_cuda.build_library(channels, ["80", "90"])
    assert again.stat().st_mtime_ns == stamp  # from the cache


def test_a_fits_kernels_compile(tmp_path, monkeypatch):
    nvcc_or_skip()
    monkeypatch.setenv("POSE_RASTERIZER_CACHE", str(tmp_path))
    path = build_cuda.build_fit_library(["80", "90"])
    assert path.is_file() and path.stat().st_size > 10_000


def test_a_missing_toolkit_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(BuildError, match="install the CUDA toolkit, 11.8 or newer"):
        build_cuda.find_nvcc()


def test_cuda_home_is_preferred(monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    nvcc = fake_nvcc(tmp_path / "bin", "12.4")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert build_cuda.find_nvcc() == nvcc
    assert build_cuda.cuda_version(nvcc) == (12, 4)


def test_an_old_toolkit_is_refused_with_its_version(tmp_path):
    with pytest.raises(BuildError, match=r"is CUDA 11\.2.*needs 11\.8 or newer"):
        build_cuda.cuda_version(fake_nvcc(tmp_path, "11.2"))


def test_architectures_the_toolkit_does_not_know(tmp_path):
    nvcc = fake_nvcc(tmp_path, "12.4")
    flags = build_cuda.architecture_flags(nvcc, ["80", "120"])
    assert flags == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=compute_90",  # newer GPU: the driver compiles the rest
    ]
    with pytest.raises(BuildError, match="compute capability 6.1"):
        build_cuda.architecture_flags(nvcc, ["61"])
    with pytest.raises(BuildError, match="must be a number"):
        build_cuda.architecture_flags(nvcc, ["hopper"])


def test_a_host_compiler_too_new_for_the_toolkit_is_avoided(tmp_path, monkeypatch):
    for name, version in (("g++", "15"), ("g++-11", "11")):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho {version}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    for name in ("NVCC_CCBIN", "CUDAHOSTCXX"):
        monkeypatch.delenv(name, raising=False)
    assert build_cuda.host_compiler_flags((11, 8)) == ["-ccbin", str(tmp_path / "g++-11")]
    monkeypatch.setenv("NVCC_CCBIN", "my-g++")
    assert build_cuda.host_compiler_flags((11, 8)) == ["-ccbin", "my-g++"]


def test_a_failed_build_leaves_a_log_and_no_library(tmp_path, monkeypatch):
    monkeypatch.setenv("POSE_RASTERIZER_CACHE", str(tmp_path))
    target = tmp_path / "lib.so"
    with pytest.raises(BuildError, match="the log is"):
        build_cuda._compile(["false"], target)
    assert not target.exists() and target.with_suffix(".log").is_file()


def test_ahead_of_time_build_reports_an_error_on_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(build, "build_library", lambda name: tmp_path / "cpu.so")
    monkeypatch.setattr(build_cuda, "find_nvcc", lambda: fake_nvcc(tmp_path, "10.1"))
    assert build.main(["--cuda-arch", "80", "90"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_torch_without_headers_is_named(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    with pytest.raises(BuildError, match="without its headers"):
        build_cuda.build_autograd()


def test_without_its_own_autograd_the_back_end_says_so_and_goes_the_slower_way(monkeypatch):
    def fail():
        raise BuildError("no compiler")

    monkeypatch.setattr(build_cuda, "build_autograd", fail)
    with pytest.warns(RuntimeWarning, match="no compiler; gradients take a slower way"):
        assert cuda._ops.__wrapped__() is None
