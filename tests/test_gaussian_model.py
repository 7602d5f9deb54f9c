"""GaussianModel: activations, joining, safetensors, and the 3DGS PLY against a second writer."""

import struct

import pytest
import torch

from gaussian_renderer.errors import UserError
from gaussian_renderer.gaussians import GaussianModel, joined, same_geometry, with_sh_degree


def random_model(n=7, degree=3, channels=3, seed=0):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g)

    return GaussianModel(
        means=draw(n, 3),
        quats=draw(n, 4),
        log_scales=draw(n, 3) - 3,
        logit_opacities=draw(n),
        sh=draw(n, (degree + 1) ** 2, channels),
        background=torch.rand(channels, generator=g),
    )


def assert_equal_models(a, b):
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(b.tensors()[name], tensor, rtol=0, atol=0, msg=name)


def plain_ply(rows, names, comments=(), count=None):
    """PLY bytes from the format's description alone: the second writer."""
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {c}" for c in comments)]
    header += [f"element vertex {len(rows) if count is None else count}"]
    header += [f"property float {name}" for name in names] + ["end_header"]
    body = b"".join(struct.pack(f"<{len(names)}f", *row) for row in rows)
    return ("\n".join(header) + "\n").encode() + body


NAMES_3DGS = (
    ["x", "y", "z", "nx", "ny", "nz"]
    + [f"f_dc_{i}" for i in range(3)]
    + [f"f_rest_{i}" for i in range(45)]
    + ["opacity"]
    + [f"scale_{i}" for i in range(3)]
    + [f"rot_{i}" for i in range(4)]
)


def test_activations_are_exp_and_sigmoid():
    model = random_model()
    torch.testing.assert_close(model.scales.log(), model.log_scales)
    torch.testing.assert_close(torch.logit(model.opacities), model.logit_opacities)
    assert (model.num_gaussians, model.num_channels, model.sh_degree) == (7, 3, 3)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_round_trip_is_exact_at_every_degree(tmp_path, degree):
    model = random_model(degree=degree)
    model.save_ply(tmp_path / "m.ply")
    assert_equal_models(model, GaussianModel.load(tmp_path / "m.ply"))


@pytest.mark.parametrize("channels", [3, 6])
def test_safetensors_round_trip_is_exact(tmp_path, channels):
    model = random_model(channels=channels, degree=1)
    model.save(tmp_path / "m.safetensors", {"name": "colour"})
    assert_equal_models(model, GaussianModel.load(tmp_path / "m.safetensors"))


def test_model_without_gaussians_round_trips(tmp_path):
    model = random_model(n=0)
    model.save_ply(tmp_path / "m.ply")
    model.save(tmp_path / "m.safetensors")
    assert_equal_models(model, GaussianModel.load(tmp_path / "m.ply"))
    assert_equal_models(model, GaussianModel.load(tmp_path / "m.safetensors"))


def test_written_ply_is_byte_for_byte_what_a_second_writer_makes(tmp_path):
    model = random_model(n=3)
    model.save_ply(tmp_path / "m.ply")
    rows = []
    for i in range(3):
        rest = [model.sh[i, k, c].item() for c in range(3) for k in range(1, 16)]
        rows.append(
            [*model.means[i].tolist(), 0, 0, 0, *model.sh[i, 0].tolist(), *rest]
            + [model.logit_opacities[i].item(), *model.log_scales[i].tolist()]
            + model.quats[i].tolist()
        )
    background = " ".join(repr(v) for v in model.background.tolist())
    comments = [f"background {background}", "sh_degree 3"]
    assert (tmp_path / "m.ply").read_bytes() == plain_ply(rows, NAMES_3DGS, comments)


def test_ply_of_lower_degree_has_all_45_rest_properties_for_viewers(tmp_path):
    random_model(degree=1).save_ply(tmp_path / "m.ply")
    header = (tmp_path / "m.ply").read_bytes().split(b"end_header")[0].decode()
    found = [line.split()[2] for line in header.splitlines() if line.startswith("property")]
    assert found == NAMES_3DGS


def test_ply_of_another_program_is_read_whatever_its_property_order(tmp_path):
    # degree 1 without padding, normals absent, order reversed, one property more than ours
    names = ["extra", *reversed([n for n in NAMES_3DGS if not n.startswith(("n", "f_rest"))])]
    names += [f"f_rest_{i}" for i in range(9)]
    row = {name: float(i) for i, name in enumerate(names)}
    (tmp_path / "m.ply").write_bytes(plain_ply([list(row.values())], names, ["background red"]))
    model = GaussianModel.load(tmp_path / "m.ply")
    assert model.sh_degree == 1
    assert model.means[0].tolist() == [row["x"], row["y"], row["z"]]
    assert model.quats[0].tolist() == [row[f"rot_{i}"] for i in range(4)]
    assert model.sh[0, 0].tolist() == [row[f"f_dc_{i}"] for i in range(3)]
    green = [row[f"f_rest_{i}"] for i in (3, 4, 5)]
    assert model.sh[0, 1:, 1].tolist() == green
    assert model.background.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a ply", "whole and valid"),
        (plain_ply([[0] * 62], NAMES_3DGS, count=2), "whole and valid"),
        (plain_ply([[0] * 3], ["x", "y", "z"]), "property f_dc_0, found only x, y, z"),
        (plain_ply([[0] * 61], NAMES_3DGS[:-10] + NAMES_3DGS[-9:]), "found 44"),
        (plain_ply([[float("nan")] * 62], NAMES_3DGS), "finite"),
        (b"ply\nformat ascii 1.0\nelement face 0\nproperty int a\nend_header\n", "found face"),
        (b"", "whole and valid"),
    ],
)
def test_bad_ply_is_a_user_error_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "bad.ply"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        GaussianModel.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_safetensors_is_a_user_error_that_names_the_file(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "m.safetensors"
    random_model().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(UserError, match="must be whole"):
        GaussianModel.load(path)
    save_file({"means": torch.zeros(1, 3)}, path)
    with pytest.raises(UserError, match="without background, log_scales"):
        GaussianModel.load(path)
    content = random_model().tensors()
    save_file({**content, "quats": torch.zeros(2, 4)}, path)
    with pytest.raises(UserError, match=r"quats must be \[7, 4\], not \[2, 4\]"):
        GaussianModel.load(path)


def test_missing_file_and_foreign_suffix_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        GaussianModel.load(tmp_path / "none.ply")
    (tmp_path / "m.splat").write_bytes(b"")
    with pytest.raises(UserError, match="'.splat'"):
        GaussianModel.load(tmp_path / "m.splat")


def test_ply_refuses_six_channels(tmp_path):
    with pytest.raises(ValueError, match="not 6"):
        random_model(channels=6).save_ply(tmp_path / "m.ply")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "shape"), [("quats", (7, 3)), ("sh", (7, 5, 3)), ("background", (4,))]
)
def test_wrong_shapes_are_refused(name, shape):
    tensors = {**random_model().tensors(), name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=name):
        GaussianModel(**tensors)


def test_joined_models_share_geometry_and_come_apart_again():
    colour = random_model(degree=2)
    reflectance = colour.with_sh(random_model(degree=1, seed=1).sh, torch.ones(3))
    both = joined(colour, reflectance)
    assert both.num_channels == 6 and both.sh_degree == 2
    assert_equal_models(colour, both.channels(0, 3))
    apart = both.channels(3, 6)
    torch.testing.assert_close(apart.sh[:, :4], reflectance.sh)
    assert apart.sh[:, 4:].abs().max() == 0
    torch.testing.assert_close(apart.background, torch.ones(3))


def test_models_of_different_geometry_are_not_joined():
    a = random_model()
    moved = GaussianModel(**{**a.tensors(), "means": a.means + 1e-6})
    assert same_geometry(a, a) and not same_geometry(a, moved)
    with pytest.raises(ValueError, match="shared geometry"):
        joined(a, moved)


def test_degree_is_cut_or_padded():
    sh = torch.randn(2, 4, 3)
    assert with_sh_degree(sh, 0).shape == (2, 1, 3)
    padded = with_sh_degree(sh, 3)
    assert padded.shape == (2, 16, 3)
    torch.testing.assert_close(padded[:, :4], sh)
    assert padded[:, 4:].abs().max() == 0


def test_conversion_and_selection_touch_every_tensor():
    model = random_model().to(dtype=torch.float64)
    assert all(t.dtype == torch.float64 for t in model.tensors().values())
    chosen = model.select(torch.tensor([2, 4]))
    torch.testing.assert_close(chosen.sh, model.sh[[2, 4]])
    assert chosen.num_gaussians == 2
