"""Scenes and helpers shared by the rasterizer's tests (as fixtures that return functions)."""

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from pose_rasterizer import build, cuda, normal_cuda, normal_equations, ops, rasterize

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
CACHES = (cuda._library, cuda._capacities, normal_cuda._layout)  # of what the library is
NAMES = ("means", "quats", "scales", "opacities", "features", "viewmat", "background", "offset")


def _rotation(generator, angle):
    axis = torch.randn(3, generator=generator, dtype=torch.float64)
    x, y, z = (axis / axis.norm() * angle).tolist()
    return torch.linalg.matrix_exp(
        torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    )


@pytest.fixture
def make_scene():
    """make_scene(n, size, channels, degree (None: colours), ...) -> dict of float64 tensors."""

    def make(n, size, channels=3, degree=1, seed=0, distance=3.2, spread=0.6, scale=0.15,
             opacity=(0.05, 0.95)):  # fmt: skip
        g = torch.Generator().manual_seed(seed)

        def rand(*shape):
            return torch.rand(*shape, generator=g, dtype=torch.float64)

        def randn(*shape):
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        height, width = size
        focal = 0.5 * max(height, width) / math.tan(0.35)
        viewmat = torch.eye(4, dtype=torch.float64)
        viewmat[:3, :3] = _rotation(g, 0.7)
        viewmat[:3, 3] = torch.tensor([0.05, -0.03, distance], dtype=torch.float64)
        features = (
            rand(n, channels) if degree is None else 0.4 * randn(n, (degree + 1) ** 2, channels)
        )
        scene = {
            "means": spread * randn(n, 3),
            "quats": randn(n, 4),
            "scales": scale * (0.2 + rand(n, 3)),
            "opacities": opacity[0] + (opacity[1] - opacity[0]) * rand(n),
            "features": features,
            "viewmat": viewmat,
            "background": rand(channels),
            "offset": 0.2 * randn(n, 2),
        }
        # what float32 can hold, so that both precisions see the same scene
        scene = {k: v.float().double() for k, v in scene.items()}
        scene["intrinsics"] = torch.tensor(
            [[focal, 0, 0.52 * width], [0, 1.1 * focal, 0.47 * height], [0, 0, 1]],
            dtype=torch.float32,
        ).double()
        scene["size"] = size
        return scene

    return make


@pytest.fixture
def render():
    """render(scene, backend, dtype) -> Rasterization of a scene of make_scene."""

    def run(scene, backend=None, **kwargs):
        kind = "colours" if scene["features"].dim() == 2 else "sh"
        return rasterize(
            *(scene[k] for k in NAMES[:4]), **{kind: scene["features"]}, viewmat=scene["viewmat"],
            intrinsics=scene["intrinsics"], size=scene["size"], background=scene["background"],
            means2d_offset=scene["offset"], backend=backend, **kwargs,
        )  # fmt: skip

    return run


@pytest.fixture
def gradients(render):
    """gradients(scene, backend, dtype, wanted) -> (Rasterization, {name: gradient}).

    The loss weighs image, alpha and depth with fixed random weights.
    """

    def run(scene, backend, dtype, wanted=NAMES, outputs=("image", "alpha", "depth"), **kwargs):
        scene = {k: v.to(dtype) if torch.is_tensor(v) else v for k, v in scene.items()}
        for name in wanted:
            scene[name] = scene[name].clone().requires_grad_()
        out = render(scene, backend, **kwargs)
        g = torch.Generator().manual_seed(7)
        loss = 0
        for name in outputs:
            value = getattr(out, name)
            weight = torch.randn(value.shape, generator=g, dtype=torch.float64).to(value)
            loss = loss + (weight * value).sum()
        loss.backward()
        return out, {name: scene[name].grad for name in wanted}

    return run


@pytest.fixture
def relative():
    """relative(a, b): norm of the difference over the norm of b."""

    def run(a, b):
        a, b = a.detach().double(), b.detach().double()
        return float((a - b).norm() / b.norm().clamp(min=1e-12))

    return run


@pytest.fixture
def problem(make_scene):
    """problem(channels, degree, ...) -> keyword arguments of pose_normal_equations, float64."""

    def make(channels=3, degree=2, *, robust=0.2, silhouette=True, light=True, n=24,
             size=(19, 21), batch=2):  # fmt: skip
        scene = make_scene(n, size, channels, degree)
        g = torch.Generator().manual_seed(5)

        def rand(*shape):
            return torch.rand(*shape, generator=g, dtype=torch.float64).float().double()

        viewmat = scene["viewmat"].repeat(batch, 1, 1)
        viewmat[:, 0, 3] += 0.0625 * torch.arange(batch)
        out = {name: scene[name] for name in NAMES[:4]}
        out |= {
            "sh" if degree is not None else "colours": scene["features"],
            "viewmat": viewmat,
            "intrinsics": scene["intrinsics"],
            "size": size,
            "target": rand(batch, channels, *size),
            "weight": rand(batch, channels, *size),
            "gain": 0.5 + rand(batch, channels) if light else torch.ones(batch, channels).double(),
            "offset": 0.2 * rand(batch, channels) * light,
            "backdrop": rand(batch, channels),
            "robust_scale": torch.full((channels,), robust, dtype=torch.float64),
        }
        if silhouette:
            out["silhouette_target"] = rand(batch, 1, *size).round()
            out["silhouette_weight"] = rand(batch, 1, *size)
        return out

    return make


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    """emulator(channels) -> the kernels as a library that runs on the CPU."""
    folder = tmp_path_factory.mktemp("emulator")
    built = {}

    def load(channels):
        if channels not in built:
            library = folder / f"c{channels}.so"
            flags = "-std=c++17 -O1 -ffp-contract=off -fPIC -shared -fvisibility=hidden".split()
            flags += ["-DPOSE_EMULATE", f"-DPOSE_CHANNELS={channels}", f"-I{HERE / 'emulator'}"]
            source = str(build.source_folder() / "cuda" / "api.cu")
            command = [COMPILER, *flags, "-x", "c++", source, "-o", str(library)]
            subprocess.run(command, check=True)
            built[channels] = ctypes.CDLL(str(library))
        return built[channels]

    return load


@pytest.fixture(
    params=["emulated", "emulated, autograd in Python", pytest.param("gpu", marks=pytest.mark.gpu),
            pytest.param("gpu, autograd in Python", marks=pytest.mark.gpu)]
)  # fmt: skip
def device(request, monkeypatch):
    """Device of the tensors; on the CPU they go through the CUDA back end on the emulator."""
    monkeypatch.setattr(cuda, "_registered", set())
    if "Python" in request.param:
        monkeypatch.setattr(cuda, "_ops", lambda: None)
    elif COMPILER is not None:
        assert cuda._ops() is not None
    if request.param.startswith("gpu"):
        if not torch.cuda.is_available():
            pytest.skip("no GPU")
        yield "cuda"
        return
    if COMPILER is None:
        pytest.skip("the emulator needs g++")
    emulator = request.getfixturevalue("emulator")
    for cached in CACHES:
        cached.cache_clear()
    monkeypatch.setattr(cuda.build_cuda, "load_library", emulator)
    monkeypatch.setattr(cuda, "_takes", lambda means: True)
    monkeypatch.setattr(cuda, "_stream", lambda device: 0)
    monkeypatch.setattr(cuda, "_memory_limit", lambda device: 1 << 20)
    monkeypatch.setattr(cuda, "_multiprocessors", lambda device: 3)
    choose = ops._choose

    def pick(backend, means, channels):
        return choose(backend, means, channels) if backend == "reference" else cuda

    for module in (ops, normal_equations):
        monkeypatch.setattr(module, "_choose", pick)
    yield "cpu"
    for cached in CACHES:
        cached.cache_clear()
