"""fit: quality on a tiny scene, exact resuming, frozen geometry, errors."""

import json
import math
import time

import pytest
import torch

from gaussian_renderer.backdrop import estimate_backdrop
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from gaussian_renderer.fit import ORIGINAL, FitConfig, evaluate, fit
from gaussian_renderer.fit_data import Gallery
from gaussian_renderer.fit_report import clutter
from gaussian_renderer.fit_schedule import budget, photo_factor
from gaussian_renderer.gaussians import joined, same_geometry
from gaussian_renderer.points import PointCloud
from gaussian_renderer.render import render
from tests.gaussian_scene import ball, photos, ring_of_cameras

QUICK = {
    "initial_points": 150,
    "max_gaussians": 300,
    "coarse_factor": 1,
    "densify_from": 20,
    "densify_every": 20,
    "densify_until": 100,
    "sh_degree": 1,
    "sh_every": 30,
    "lr_means": 2e-3,
    "lr_means_final": 2e-5,
}


@pytest.fixture(scope="module")
def scene():
    cameras = ring_of_cameras(20)
    return cameras, photos(ball(), cameras)


@pytest.fixture(autouse=True)
def one_thread():
    """Images this small gain nothing from threads, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quick(**changes):
    return FitConfig(**{**QUICK, **changes})


def quiet_fit(scene, config, **options):
    return fit(*scene, config, progress=False, **options)


def assert_equal_models(a, b):
    for name, tensor in a.tensors().items():
        assert torch.equal(tensor, b.tensors()[name]), name


def test_fit_explains_held_out_views_and_reports_them(scene, tmp_path):
    model = quiet_fit(scene, quick(iterations=240, holdout=5), folder=tmp_path)
    report = json.loads((tmp_path / "fit_report.json").read_text())
    assert report["held_out_views"] == [0, 5, 10, 15] and report["num_views"] == 16
    assert report["held_out"]["psnr"] > 23  # 26.6 seen; the constant background gives 14
    assert report["num_gaussians"] == model.num_gaussians <= 300
    held = scene[0][::5], scene[1][::5]
    wanted = evaluate(model, *held) | clutter(model, *held, estimate_backdrop(scene[1]))
    assert report["held_out"] == wanted
    assert len(report["psnr_by_epoch"]) == 240 // 16
    # nothing floats: alpha is low where the ball is not
    alpha = render(model, scene[0][0]).alpha[0]
    assert alpha[:5].mean() < 0.01 and alpha[20:28, 20:28].mean() > 0.8  # the ball has gaps


def test_check_views_are_measured_before_they_are_fitted(scene, tmp_path):
    config = quick(iterations=200, check_views=4, check_until=0.6)
    model = quiet_fit(scene, config, folder=tmp_path, seed=1)
    report = json.loads((tmp_path / "fit_report.json").read_text())
    checked = report["checked"]
    assert checked["views"] == [1, 6, 11, 16]  # evenly, turned by the seed
    # a pass over the 16 others ends at step 128, the first after 0.6 x 200
    assert checked["step"] == 128 and len(checked["psnr_by_view"]) == 4
    assert len(report["psnr_by_epoch"]) == 8 + (200 - 128) // 20
    views = checked["views"]
    after = evaluate(model, [scene[0][i] for i in views], [scene[1][i] for i in views])
    assert after["psnr"] > checked["psnr"]
    # half of the pixels err less than the median, all of them less than the highest quantile
    quantiles = checked["errors"]["quantiles"]
    assert 0 < quantiles["0.5"] < quantiles["0.9"] < quantiles["0.999"] < 1
    assert len(checked["errors"]["mean_absolute"]) == 3


def test_error_statistics_by_hand(scene):
    cameras, images = scene
    model = ball()
    darker = [image - 0.1 for image in images[:2]]
    found = evaluate(model, cameras[:2], darker)["errors"]
    # a clamped rendering less a photo that is 0.1 darker than it
    assert found["mean_absolute"] == pytest.approx([0.1] * 3, abs=1e-5)
    assert found["root_mean_square"] == pytest.approx([0.1] * 3, abs=1e-5)
    assert found["quantiles"]["0.99"] == pytest.approx(0.1, abs=1e-5)
    covered = [int((render(model, c).alpha > 0.5).sum()) for c in cameras[:2]]
    assert found["num_pixels"] == sum(covered)
    nothing = model.select(torch.zeros(150, dtype=torch.bool))
    assert evaluate(nothing, cameras[:1], images[:1])["errors"] is None


def test_clutter_by_hand(scene):
    cameras, images = scene
    backdrop = estimate_backdrop(images)
    clean = clutter(ball(), cameras[:3], images[:3], backdrop)
    assert clean["alpha_outside"] < 0.01 and clean["largest_floater_px"] == 0
    model = ball()
    # an opaque Gaussian of 0.05 in a corner of the first view only
    centre = torch.linalg.inv(cameras[0].viewmat()) @ torch.tensor([-1.2, -1.2, 4.0, 1.0])
    model.means[0], model.log_scales[0] = centre[:3], math.log(0.05)
    model.logit_opacities[0] = 6.0
    found = clutter(model, cameras[:1], images[:1], backdrop)
    alpha = render(model, cameras[0]).alpha[0]
    assert found["largest_floater_px"] == int((alpha[:10, :10] > 0.1).sum()) > 3
    assert found["alpha_outside"] > clean["alpha_outside"]


def test_photos_grow_from_coarse_to_full_in_equal_parts():
    config = quick(iterations=40, coarse_factor=4, coarse_share=0.5)
    factors = [photo_factor(config, step, 40) for step in range(40)]
    assert factors == [4] * 10 + [2] * 10 + [1] * 20
    assert photo_factor(quick(coarse_factor=1), 0, 40) == 1


def test_budget_grows_evenly_and_is_kept():
    config = quick(max_gaussians=1000, densify_every=20, densify_until=100)
    assert [budget(config, 200, step) for step in (20, 40, 80, 100)] == [400, 600, 1000, 1000]
    assert budget(quick(max_gaussians=0), 200, 20) is None


def test_models_on_the_way_are_shown_without_counting_their_time(scene):
    seen = []

    def slow(step, seconds, model):
        seen.append((step, seconds, model.num_gaussians))
        time.sleep(0.3)

    quiet_fit(scene, quick(iterations=6), on_model=slow, model_every=2)
    assert [step for step, _, _ in seen] == [2, 4, 6]
    assert 0 < seen[0][1] < seen[2][1] < 0.6 and seen[0][2] == 150


# beyond a densification and between two checkpoints; after the check views were measured and while
# the final mean is being made
@pytest.mark.parametrize(("stop", "first"), [(68, 51), (88, 76)])
def test_interrupted_fit_goes_on_to_exactly_the_same_model(scene, tmp_path, stop, first):
    changes = {"check_until": 0.5, "average_from": 0.75}
    config = quick(iterations=90, checkpoint_every=25, fit_background="learn", **changes)

    def interrupt(step, figures):
        if step == stop:
            raise KeyboardInterrupt

    whole = quiet_fit(scene, config, seed=3)
    with pytest.raises(KeyboardInterrupt):
        quiet_fit(scene, config, seed=3, folder=tmp_path, on_step=interrupt)
    assert not (tmp_path / "fit_report.json").exists()
    steps = []
    resumed = quiet_fit(
        scene, config, seed=3, folder=tmp_path, on_step=lambda step, _: steps.append(step)
    )
    assert steps[0] == first and steps[-1] == 90
    assert_equal_models(whole, resumed)
    assert_equal_models(whole, quiet_fit(scene, config, seed=3, folder=tmp_path))  # no step left
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "fit_report.json"}


def test_checkpoint_of_other_settings_or_code_or_broken_is_not_used(scene, tmp_path, monkeypatch):
    quiet_fit(scene, quick(iterations=3, checkpoint_every=3), folder=tmp_path)
    steps = []
    with pytest.warns(UserWarning, match="other settings"):
        quiet_fit(
            scene, quick(iterations=4), folder=tmp_path, on_step=lambda step, _: steps.append(step)
        )
    assert steps == [1, 2, 3, 4]
    monkeypatch.setattr("gaussian_renderer.fit_data.VERSION", 0)
    with pytest.warns(UserWarning, match="other settings"):
        quiet_fit(
            scene, quick(iterations=4), folder=tmp_path, on_step=lambda step, _: steps.append(step)
        )
    assert steps[4:] == [1, 2, 3, 4]
    with atomic_path(tmp_path / "checkpoint.pt") as path:
        path.write_bytes(b"PK broken")
    with pytest.warns(UserWarning, match="not a readable checkpoint"):
        quiet_fit(scene, quick(iterations=2), folder=tmp_path)


def test_frozen_geometry_changes_colours_only(scene):
    cameras, images = scene
    truth = ball()
    inverted = [1 - image for image in images]
    model = quiet_fit(
        (cameras, inverted),
        quick(frozen_iterations=60, lr_sh=3e-2),
        initial=truth,
        freeze_geometry=True,
        name="reflectance",
    )
    assert same_geometry(model, truth)
    torch.testing.assert_close(model.background, 1 - truth.background)
    assert evaluate(model, cameras, inverted)["psnr"] > 30  # 12 before
    both = joined(truth, model)
    drawn = render(both, cameras[0]).image
    torch.testing.assert_close(drawn[:3].clamp(0, 1), images[0], atol=1e-5, rtol=0)


def test_six_channels_are_fitted_as_one_model(scene):
    cameras, images = scene
    six = [torch.cat([image, 1 - image]) for image in images]
    model = quiet_fit((cameras, six), quick(iterations=160))
    assert model.num_channels == 6
    torch.testing.assert_close(model.background, torch.tensor([0.9, 0.8, 0.7, 0.1, 0.2, 0.3]))
    assert evaluate(model, cameras, six)["psnr"] > 20
    frozen = quiet_fit(
        (cameras, six), quick(frozen_iterations=2), initial=ball(), freeze_geometry=True
    )
    assert frozen.num_channels == 6


def test_fit_starts_from_a_point_cloud_or_goes_on_from_a_model(scene):
    truth = ball()
    cloud = PointCloud(truth.means, torch.full((150, 3), 0.4))
    config = quick(iterations=1, densify_from=100, sh_every=1000)
    started = quiet_fit(scene, config, initial=cloud)
    assert (started.means - truth.means).abs().max() < 0.05
    before = evaluate(truth, *scene)["psnr"]
    assert before > 60
    gone_on = quiet_fit(scene, config, initial=truth)
    assert gone_on.sh_degree == 1 and evaluate(gone_on, *scene)["psnr"] > 25


def test_original_preset_names_fields_of_the_config_and_runs(scene):
    config = FitConfig(**{**ORIGINAL, "iterations": 12, "initial_points": 100})
    assert config.opacity_reset_every == 3000 and config.densify_until == 15000
    model = quiet_fit(scene, config)
    torch.testing.assert_close(model.background, scene[1][0][:, 5, 5])
    short = FitConfig(
        **{**ORIGINAL, "iterations": 12, "initial_points": 100, "background_from": 4}
        | {"opacity_reset_every": 6, "densify_from": 3, "densify_every": 3}
    )
    seen = []
    quiet_fit(scene, short, on_step=lambda step, figures: seen.append(figures["num_gaussians"]))
    assert len(seen) == 12 and all(math.isfinite(n) for n in seen)


def test_fit_stops_at_a_plateau(scene):
    config = quick(frozen_iterations=400, plateau_gain=2.0, plateau_epochs=2)
    steps = []
    quiet_fit(
        scene, config, initial=ball(), freeze_geometry=True, on_step=lambda s, _: steps.append(s)
    )
    assert 60 <= len(steps) < 400 and len(steps) % 20 == 0


def test_progress_bar_shows_psnr_and_count(scene, capsys):
    fit(*scene, quick(iterations=40), name="colour")
    shown = capsys.readouterr().err
    assert "fit colour" in shown and "40/40" in shown and "Gaussians" in shown and "dB" in shown


def test_wrong_input_is_a_user_error(scene):
    cameras, images = scene
    with pytest.raises(UserError, match="3 photos and 20 poses"):
        fit(cameras, images[:3], FitConfig())
    with pytest.raises(UserError, match="fit_background is one of"):
        fit(cameras, images, FitConfig(fit_background="pink"))
    with pytest.raises(UserError, match="sh_degree is 0..3, not 4"):
        fit(cameras, images, FitConfig(sh_degree=4))
    with pytest.raises(ValueError, match="freeze_geometry needs"):
        fit(cameras, images, FitConfig(), freeze_geometry=True)


def test_gallery_keeps_photos_within_its_bound_and_averages_areas(scene, monkeypatch):
    from gaussian_renderer import fit_data

    cameras, images = scene
    loads = []

    class Lazy(list):
        def __getitem__(self, index):
            loads.append(index)
            return super().__getitem__(index)

    # two photos of one byte a value, and what is known of alpha
    monkeypatch.setattr(fit_data, "CACHE_BYTES", 2 * (3 + 1) * 24 * 24)
    gallery = Gallery(cameras, Lazy(images), estimate_backdrop(images), torch.device("cpu"))
    for _ in range(2):
        for i in range(3):
            view = gallery.view(i, 2, about_object=True)
    assert loads == [0, 1, 2, 2]
    assert view.size == (24, 24) and view.share == 1
    assert view.camera.intrinsics.width == 24
    # backdrop, object, and the uncertain edge between
    assert view.alpha_sign[0, 0, 0] == 1 and view.alpha_sign[0, 12, 12] == -1
    assert set(view.alpha_sign.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert gallery.view(5, 2, about_object=False).alpha_sign is None
    mean = images[2][:, :2, :2].mean((1, 2))
    # kept as bytes
    torch.testing.assert_close(view.image[:, 0, 0], mean, atol=0.5 / 255 + 1e-6, rtol=0)


def test_only_the_part_with_the_object_is_fitted():
    cameras = ring_of_cameras(2, size=200)
    small = ball()
    small.means *= 0.2
    small.log_scales -= 2
    images = photos(small, cameras)
    gallery = Gallery(cameras, images, estimate_backdrop(images), torch.device("cpu"))
    for factor in (1, 2):
        view = gallery.view(0, factor, about_object=True)
        whole = gallery.view(0, factor, about_object=False)
        height, width = view.pixels.shape[1:]
        assert view.size == (200 // factor, 200 // factor) and view.share < 0.2
        assert view.alpha_sign.is_contiguous() and view.alpha_sign.shape[1:] == (height, width)
        k, all_ = view.camera.intrinsics, whole.camera.intrinsics
        x, y = round(all_.cx - k.cx), round(all_.cy - k.cy)
        assert (k.width, k.height) == (width, height) and x % 8 == y % 8 == 0
        assert torch.equal(view.pixels, whole.pixels[:, y : y + height, x : x + width])
        # nothing of the object is left out, and what is drawn is the same
        drawn = render(small, view.camera)
        torch.testing.assert_close(
            drawn.image, render(small, whole.camera).image[:, y : y + height, x : x + width],
            atol=2e-5, rtol=0,
        )  # fmt: skip
        alpha = render(small, whole.camera).alpha
        assert drawn.alpha.sum().item() == pytest.approx(alpha.sum().item(), rel=1e-4)


def test_a_rendering_without_gradients_does_not_spoil_one_with(scene):
    model, camera = ball(), scene[0][0].resized(31, 31)  # of a size that nobody else renders
    with torch.inference_mode():
        render(model, camera)
    viewmat = camera.viewmat().requires_grad_()
    render(model, camera, viewmat=viewmat).image.sum().backward()
    assert viewmat.grad.abs().sum() > 0


def test_render_resamples_the_pinhole_and_takes_a_pose_with_gradient(scene):
    camera = scene[0][0]
    model = ball()
    small = render(model, camera, size=(24, 24))
    wanted = render(model, camera.resized(24, 24))
    assert torch.equal(small.image, wanted.image)
    assert small.depth.shape == small.alpha.shape == (1, 24, 24)
    viewmat = camera.viewmat().requires_grad_()
    drawn = render(model, camera, torch.zeros(3), viewmat=viewmat)
    drawn.image.sum().backward()
    assert viewmat.grad.abs().sum() > 0
    centre = drawn.depth[0, 16:32, 16:32].median().item()
    assert 4 - 0.8 - 0.3 < centre < 4  # the near side of the ball
    assert drawn.image[:, 0, 0].abs().max() == 0  # the other background
