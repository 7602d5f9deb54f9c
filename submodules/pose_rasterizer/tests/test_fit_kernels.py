"""A fit's loss and optimiser: on the CPU, on the emulator and on a GPU where there is one."""

import ctypes
import subprocess

import pytest
import torch
from pose_rasterizer import build, build_cuda, cuda, fit_native
from pose_rasterizer.adam import AdamLeaf, adam_step
from pose_rasterizer.errors import BuildError
from pose_rasterizer.photometric import photometric

from .conftest import COMPILER, HERE

WINDOW = torch.exp(-0.5 * (torch.arange(-5.0, 6.0) / 1.5) ** 2)
WINDOW /= WINDOW.sum()
load_cuda_library = fit_native.cuda_library  # a test puts another function in its place


@pytest.fixture(scope="session")
def emulated_fit(tmp_path_factory):
    """The fit's CUDA kernels as a library that runs on the CPU."""
    library = tmp_path_factory.mktemp("emulator") / "fit.so"
    flags = "-std=c++17 -O1 -ffp-contract=off -fPIC -shared -fvisibility=hidden".split()
    flags += ["-DPOSE_EMULATE", f"-I{HERE / 'emulator'}", "-x", "c++"]
    source = str(build.source_folder() / "fit" / "fit.cu")
    subprocess.run([COMPILER, *flags, source, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(params=["cpu", "emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def where(request, monkeypatch):
    """Device of the tensors, with the library that serves it."""
    if request.param == "gpu":
        if not torch.cuda.is_available():
            pytest.skip("no GPU")
        yield "cuda"
        return
    if COMPILER is None:
        pytest.skip("needs g++")
    if request.param == "emulated":
        load_cuda_library.cache_clear()
        library = request.getfixturevalue("emulated_fit")
        monkeypatch.setattr(build_cuda, "load_fit_library", lambda: library)
        monkeypatch.setattr(cuda, "_takes", lambda tensor: True)
        monkeypatch.setattr(cuda, "_stream", lambda device: 0)
    yield "cpu"
    load_cuda_library.cache_clear()


def reference(image, target, weight):
    """(loss, l1, ssim, square) and the gradient, float64, by convolution and autograd."""
    x = image.double().requires_grad_()
    y = target.double() / 255 if target.dtype == torch.uint8 else target.double()
    kernel = torch.outer(WINDOW.double(), WINDOW.double())[None, None]

    def mean(maps):
        return torch.nn.functional.conv2d(maps[:, None], kernel, padding=5)[:, 0]

    m, n = mean(x), mean(y)
    xx, yy, xy = mean(x * x) - m * m, mean(y * y) - n * n, mean(x * y) - m * n
    c1, c2 = 0.01**2, 0.03**2
    s = (2 * m * n + c1) * (2 * xy + c2) / ((m * m + n * n + c1) * (xx + yy + c2))
    l1, ssim = (x - y).abs().mean(), s.mean()
    loss = (1 - weight) * l1 + weight * (1 - ssim)
    loss.backward()
    return [loss.item(), l1.item(), ssim.item(), (x - y).square().mean().item()], x.grad


@pytest.mark.parametrize(
    ("size", "channels", "weight", "in_bytes"),
    [((20, 37), 3, 0.2, False), ((5, 7), 6, 0.2, True), ((33, 16), 1, 1.0, True),
     ((16, 18), 2, 0.0, False)],
)  # fmt: skip
def test_loss_and_gradient_match_the_reference(where, relative, size, channels, weight, in_bytes):
    g = torch.Generator().manual_seed(channels)
    image = torch.rand(channels, *size, generator=g)
    target = torch.rand(channels, *size, generator=g)
    if in_bytes:
        target = (255 * target).to(torch.uint8)
    wanted, gradient = reference(image, target, weight)
    found = photometric(image.to(where), target.to(where), WINDOW, weight, scale=0.5)
    assert found.v_alpha is None
    if weight == 0:
        wanted[2] = 0.0
    # worst seen 2e-7
    assert found.means.tolist() == pytest.approx(wanted, abs=2e-6)
    assert relative(found.v_image.cpu(), 0.5 * gradient) < 1e-4  # worst seen 8e-6
    again = photometric(image.to(where), target.to(where), WINDOW, weight, scale=0.5)
    assert torch.equal(found.means, again.means) and torch.equal(found.v_image, again.v_image)


def test_hold_on_alpha_by_hand(where):
    sign = torch.tensor([[1, -1, 0], [-1, 1, 1]], dtype=torch.int8)[None].to(where)
    image = torch.zeros(2, 2, 3, device=where)
    options = {"alpha_sign": sign, "alpha_scale": 0.25}
    found = photometric(image, image, WINDOW, 0.2, **options)
    assert found.v_alpha.tolist() == [[[0.25, -0.25, 0], [-0.25, 0.25, 0.25]]]
    found = photometric(image, image, WINDOW, 0.2, **options, only_outside=True)
    assert found.v_alpha.tolist() == [[[0.25, 0, 0], [0, 0.25, 0.25]]]


def test_hold_on_alpha_takes_a_part_of_a_larger_image(where):
    g = torch.Generator().manual_seed(3)
    whole = torch.randint(-1, 2, (1, 9, 12), generator=g).to(where, torch.int8)
    part = whole[:, 2:7, 3:10]
    image = torch.zeros(2, 5, 7, device=where)
    found = photometric(image, image, WINDOW, 0.2, alpha_sign=part, alpha_scale=0.5)
    assert torch.equal(found.v_alpha, 0.5 * part)


def test_loss_refuses_what_does_not_fit_together(where):
    image = torch.zeros(3, 4, 5, device=where)
    with pytest.raises(ValueError, match=r"takes \[C, H, W\]"):
        photometric(image, image[:, :3], WINDOW, 0.2)
    with pytest.raises(TypeError, match="float32 or uint8 target"):
        photometric(image, image.double(), WINDOW, 0.2)


def leaves_of(where, dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    shapes = {"means": (1100, 3), "log_scales": (1100, 3), "logits": (1100,), "sh": (1100, 4, 2)}
    values = {k: torch.randn(shape, generator=g).to(where, dtype) for k, shape in shapes.items()}
    gradients = [
        {k: torch.randn(shape, generator=g).to(where, dtype) for k, shape in shapes.items()}
        for _ in range(4)
    ]
    return values, gradients


def test_adam_matches_torch_on_activated_leaves(where):
    """Against torch.optim.Adam in float64, which differentiates through the activations itself."""
    values, gradients = leaves_of(where)
    rates = {"means": 1e-2, "log_scales": 2e-2, "logits": 5e-2, "sh": 3e-3}
    exact = {k: v.detach().cpu().double().requires_grad_() for k, v in values.items()}
    head, rest = exact["sh"][:, :1].detach(), exact["sh"][:, 1:].detach()
    exact["sh"], exact["rest"] = head.requires_grad_(), rest.requires_grad_()
    optimiser = torch.optim.Adam(
        [{"params": [v], "lr": rates.get(k, 7e-3)} for k, v in exact.items()], eps=1e-15
    )
    leaves = {
        k: AdamLeaf(v, torch.zeros_like(v), torch.zeros_like(v), 0, rates[k])
        for k, v in values.items()
    }
    leaves["sh"].rate_rest = 7e-3
    leaves["log_scales"].activation, leaves["logits"].activation = "exp", "sigmoid"
    for step in gradients:
        leaves["log_scales"].activated = values["log_scales"].exp()
        leaves["logits"].activated = values["logits"].sigmoid()
        adam_step(list(leaves.values()), [step[k] for k in leaves], 1e-15)
        wanted = {k: v.cpu().double() for k, v in step.items()}
        loss = (exact["means"] * wanted["means"]).sum()
        loss = loss + (exact["log_scales"].exp() * wanted["log_scales"]).sum()
        loss = loss + (exact["logits"].sigmoid() * wanted["logits"]).sum()
        whole = torch.cat([exact["sh"], exact["rest"]], 1)
        loss = loss + (whole * wanted["sh"]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    exact["sh"] = torch.cat([exact["sh"], exact.pop("rest")], 1)
    for name, leaf in leaves.items():
        assert leaf.steps == 4
        difference = (leaf.value.cpu() - exact[name].detach()).abs().max().item()
        assert difference < 1e-5, name  # worst seen 6e-7


def test_adam_in_torch_agrees_with_the_kernel(where, monkeypatch):
    found = []
    for kernel in (True, False):
        values, gradients = leaves_of(where)
        leaf = AdamLeaf(values["sh"], *torch.zeros(2, 1100, 4, 2, device=where), 0, 1e-2, 1e-3)
        leaf.first, leaf.second = leaf.first.clone(), leaf.second.clone()
        if not kernel:

            def missing():
                raise BuildError("no compiler")

            monkeypatch.setattr(fit_native, "cpu_library", missing)
            monkeypatch.setattr(fit_native, "cuda_library", missing)
        for step in gradients:
            adam_step([leaf], [step["sh"]], 1e-15)
        found.append(leaf.value)
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)
    adam_step([], [], 1e-15)  # nothing to move
