"""What the operator refuses, and in which words."""

import pytest
import torch
from pose_rasterizer import rasterize


@pytest.fixture
def given(make_scene):
    scene = make_scene(3, (8, 9))
    scene = {k: v.float() if torch.is_tensor(v) else v for k, v in scene.items()}
    names = ("means", "quats", "scales", "opacities", "viewmat", "intrinsics", "size", "background")
    return {k: scene[k] for k in names} | {"sh": scene["features"]}


BAD = [
    ("means", torch.zeros(3, 2), ValueError, r"means must have shape \[N, 3\], found \[3, 2\]"),
    ("means", [[0, 0, 0]], TypeError, r"means must be a tensor .*found list"),
    ("means", torch.zeros(3, 3, dtype=torch.int32), TypeError, "means must be floating point"),
    ("quats", torch.zeros(4, 4), ValueError, r"quats must have shape \[3, 4\] \(w, x, y, z\)"),
    ("opacities", torch.zeros(3, 1), ValueError, r"opacities must have shape \[3\].*\[3, 1\]"),
    ("scales", torch.zeros(3, 3).double(), TypeError, "scales is torch.float64 but means"),
    ("scales", torch.zeros(3, 3, device="meta"), ValueError, "scales is on meta but means on cpu"),
    ("sh", torch.zeros(3, 5, 3), ValueError, "1, 4, 9 or 16 coefficients"),
    ("sh", torch.zeros(3, 4, 0), ValueError, "at least one colour channel"),
    ("sh", None, ValueError, "either sh or colours"),
    ("colours", torch.zeros(3, 3), ValueError, "either sh or colours"),
    ("viewmat", torch.eye(3), ValueError, r"viewmat must have shape \[4, 4\]"),
    ("viewmat", "eye", TypeError, "viewmat must be a tensor"),
    ("intrinsics", torch.eye(4), ValueError, r"intrinsics must have shape \[3, 3\]"),
    ("background", torch.zeros(2), ValueError, r"background must have shape \[3\]"),
    ("means2d_offset", torch.zeros(2, 2), ValueError, r"means2d_offset must have shape \[3, 2\]"),
    ("size", (0, 4), ValueError, "at least 1x1 px"),
    ("size", 5, ValueError, r"size must be \(height, width\)"),
    ("sh_degree", 2, ValueError, r"sh_degree must lie in 0\.\.1"),
    ("backend", "gpu", ValueError, "backend must be one of reference, cpu, cuda"),
    ("backend", "cuda", ValueError, "needs tensors on that device"),
    ("intrinsics", torch.eye(3).requires_grad_(), ValueError, "no gradient for the intrinsics"),
]


@pytest.mark.parametrize(("name", "value", "error", "text"), BAD)
def test_bad_input_names_the_rule_and_the_value(given, name, value, error, text):
    with pytest.raises(error, match=text):
        rasterize(**(given | {name: value}))


def test_cpu_back_end_refuses_double_and_the_default_takes_the_reference(given):
    double = {k: v.double() if torch.is_tensor(v) else v for k, v in given.items()}
    with pytest.raises(TypeError, match="computes in float32"):
        rasterize(**double, backend="cpu")
    assert rasterize(**double).image.dtype == torch.float64


def test_colours_are_used_as_they_are(given):
    colours = torch.full((3, 2), -2.0)
    given = given | {"sh": None, "colours": colours, "background": None}
    assert rasterize(**given).image.min() < 0
