"""The training benchmark: schedule in proportion, curves, table and plot on a tiny scene."""

import pytest
import torch

from benchmarks import training
from benchmarks.training_gsplat import model_of, optimisers_of, parameters_of
from gaussian_renderer.fit import ORIGINAL, FitConfig
from tests.gaussian_scene import ball, photos, ring_of_cameras

TINY = {"initial_points": 80, "max_gaussians": 120, "coarse_factor": 1, "sh_degree": 1}


class StandIn:
    """A gallery view whose photo is at hand."""

    def __init__(self, camera, photo):
        self.camera, self.photo = camera, photo

    def image(self):
        return self.photo


class StandInScene:
    points = None

    def __init__(self, cameras, images):
        self.gallery = [StandIn(*pair) for pair in zip(cameras, images, strict=True)]


@pytest.fixture(scope="module")
def data():
    cameras = ring_of_cameras(9)
    images = photos(ball(), cameras)
    inverted = [1 - image for image in images]
    return training.Data(StandInScene(cameras, images), StandInScene(cameras, inverted), 4)


def test_every_fourth_photo_is_held_out_and_channels_are_parts(data):
    assert data.held == [0, 4, 8] and data.fitted == [1, 2, 3, 5, 6, 7]
    assert len(data.cameras(True)) == 3 and len(data.photos("both", False)) == 6
    both = data.photos("both", True)[1]
    assert both.shape[0] == 6
    assert torch.equal(both[:3], data.photos("colour", True)[1])
    assert torch.equal(both[3:], data.photos("reflectance", True)[1])


def test_a_shortened_recipe_keeps_its_proportions():
    short = training.shortened(FitConfig(**ORIGINAL), 3000)
    assert (short.iterations, short.densify_until, short.densify_from) == (3000, 1500, 50)
    assert (short.opacity_reset_every, short.background_from, short.sh_every) == (300, 300, 100)
    assert short.densify_every == 100 and short.initial_points == 100000
    assert training.shortened(FitConfig(**ORIGINAL), 30000) == FitConfig(**ORIGINAL)


def test_curves_are_measured_and_become_table_and_plot(data, tmp_path):
    config = FitConfig(**TINY, iterations=24, check_views=0)
    results = {
        "ours": training.train_ours(data, config, "cpu", 0),
        "original": training.train_original(data, config, "cpu", 0),
    }
    ours, colour = results["ours"]["both"], results["original"]["colour"]
    assert [point["step"] for point in ours] == list(range(2, 25, 2))
    seconds = [point["seconds"] for point in ours]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert ours[-1]["colour"]["psnr"] > ours[0]["colour"]["psnr"]
    assert "reflectance" in ours[-1] and "reflectance" not in colour[-1]
    rows = training.table_rows(results)
    assert rows[0]["steps"] == 24 and rows[0]["num_gaussians"] == ours[-1]["num_gaussians"]
    # both models of the recipe count, in time and in size
    ends = [curve[-1] for curve in results["original"].values()]
    assert rows[1]["seconds"] == sum(end["seconds"] for end in ends)
    assert rows[1]["num_gaussians"] == sum(end["num_gaussians"] for end in ends)
    assert training.table(rows).count("\n") == 3
    training.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_gsplat_is_left_out_with_a_word_where_there_is_no_gpu(data, capsys):
    assert "needs a GPU" in training.no_gsplat(torch.device("cpu"))
    options = type("Options", (), {"methods": ["gsplat"], "original_steps": 30000})
    cfg = type("Cfg", (), {"fit": FitConfig(), "seed": 0})
    assert training.compared(data, cfg, options, torch.device("cpu")) == {}
    assert "gsplat skipped" in capsys.readouterr().out


def test_models_go_to_gsplat_and_back_unchanged():
    model = ball()
    again = model_of(parameters_of(model, torch.device("cpu")), model.background)
    for name, tensor in model.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name


def test_every_tensor_of_gsplat_has_its_own_rate():
    config = FitConfig(**ORIGINAL)
    parameters = parameters_of(ball(), torch.device("cpu"))
    optimisers = optimisers_of(parameters, config, extent=5.0)
    assert set(optimisers) == set(parameters)
    rates = {name: o.param_groups[0]["lr"] for name, o in optimisers.items()}
    assert rates["means"] == pytest.approx(1.6e-4 * 5) and rates["shN"] == pytest.approx(1.25e-4)
    assert optimisers["quats"].param_groups[0]["params"][0] is parameters["quats"]
