"""Close-ups: the part of a photograph that shows the object, and what the models know of it."""

from dataclasses import replace

import pytest
import torch

from piad.anomaly import DetectConfig
from piad.change_net import load_change_net
from piad.close_up import (
    LARGEST_OWN_ZOOM,
    SIZE_STEP_PX,
    SIZES,
    STEP_PX,
    Window,
    common_sizes,
    enlarged,
    enlarging,
    object_box,
    object_window,
    square,
    whole,
)
from piad.features import load_features
from piad.models import ModelPair
from piad.normality import Normality
from piad.scoring import Shot, anomalies_at, close_ups
from piad.surface import surface_maps
from tests.detection_scene import SeededNet
from tests.gaussian_scene import ball, camera_at, photos, ring_of_cameras

CFG = DetectConfig(detect_layers="0,1", detect_normal_views=0, detect_change=0.0, detect_hue=0.0)


def pair(**options):
    return ModelPair(ball(**options), ball(seed=1, **options))


@pytest.mark.parametrize("distance", [4.0, 6.0, 9.0])
def test_a_window_shows_the_object_and_a_margin(distance):
    models, camera = pair(count=1500), camera_at(distance)
    window = object_window(models, camera)
    alpha = models.render(camera.viewmat("cpu"), camera.intrinsics).alpha[:1]
    rows, columns = (alpha[0] > 0.5).any(1).nonzero()[:, 0], (alpha[0] > 0.5).any(0).nonzero()[:, 0]
    side = max(len(rows), len(columns))
    assert side < 300
    assert window.x + 0.08 * side < columns[0] and window.y + 0.08 * side < rows[0]
    assert columns[-1] < window.x + window.width - 0.08 * side
    assert rows[-1] < window.y + window.height - 0.08 * side
    assert {side % STEP_PX for side in window.size} <= {0, 400 % STEP_PX}
    assert max(window.size) < 1.5 * side + STEP_PX


def test_an_object_s_photographs_are_cut_to_few_sizes():
    cameras = [camera_at(5.0 + 0.5 * k, shift=0.1 * k) for k in range(12)]
    models, free = pair(count=1500), pair(count=1500)
    models.cuts = common_sizes(models, cameras)
    assert len(models.cuts) == SIZES and models.cuts == common_sizes(models, cameras[::-1])
    assert all(side % SIZE_STEP_PX == 0 for size in models.cuts for side in size)
    sizes = set()
    for camera in cameras:
        window, (low, high) = object_window(models, camera), object_box(models, camera)
        margin = 0.1 * float((high - low).max()) - 0.5  # pixels are whole
        assert window.x <= low[0] - margin and window.y <= low[1] - margin
        assert high[0] + margin <= window.x + window.width
        assert high[1] + margin <= window.y + window.height
        sizes.add(window.size)
    assert sizes == set(models.cuts)
    pixels = [
        sum(w.width * w.height for w in (object_window(m, c) for c in cameras))
        for m in (models, free)
    ]
    assert pixels[0] < 1.1 * pixels[1]
    near, small = camera_at(4.0), camera_at(9.0, side=100)
    assert object_window(models, near) == object_window(free, near)  # none of them holds it
    assert object_window(models, small) == object_window(free, small)  # they hold more than that


def test_views_of_one_size_have_that_alone():
    models = pair(count=1500)
    ((height, width),) = common_sizes(models, [camera_at(6.0)] * 3)
    low, high = object_box(models, camera_at(6.0))
    for side, extent in zip((width, height), high - low, strict=True):
        assert 0 <= side - 1.2 * float((high - low).max()) + float((high - low).max() - extent) < 33
    assert common_sizes(models, [camera_at(0.1)]) == ((400, 400),)  # it stands in the object


def test_a_stray_gaussian_widens_no_window():
    model = ball(count=1500)
    means = model.means.clone()
    means[7] = torch.tensor([0.0, 1.4, 0.0])
    stray = ModelPair(replace(model, means=means), ball(count=1500, seed=1))
    assert object_window(stray, camera_at(6.0)) == object_window(pair(count=1500), camera_at(6.0))


def test_a_window_stays_inside_the_image():
    models = pair()
    for shift in (-1.5, 1.5):
        window = object_window(models, camera_at(5.0, shift=shift))
        assert 0 <= window.x <= 400 - window.width and 0 <= window.y <= 400 - window.height
    near, small = camera_at(2.2), camera_at(5.0, side=48)
    assert object_window(models, near) == whole(near)
    assert object_window(models, small) == whole(small)
    behind = camera_at(0.1)
    assert object_window(models, behind) == whole(behind)


def test_examples_are_squares_about_the_object():
    camera = camera_at(6.0)
    assert square(Window(10, 100, 128, 64), 200, camera) == Window(0, 32, 200, 200)
    assert square(Window(300, 300, 64, 64), 500, camera) == whole(camera)


def test_what_looks_small_is_enlarged_more():
    models, wanted = pair(count=1500), CFG.detect_object_px

    def zoom(*distances, **choices):
        cameras = [camera_at(distance) for distance in distances]
        return enlarging(replace(CFG, **choices), models, cameras).detect_zoom

    low, high = object_box(models, camera_at(4.0))
    assert zoom(3.5, 4.0, 9.0) * float((high - low).max()) == pytest.approx(wanted, rel=0.01)
    assert zoom(30.0) == LARGEST_OWN_ZOOM
    assert zoom(2.6) == CFG.detect_zoom  # it fills the image
    assert zoom(2.6, detect_zoom=3.0) == 3.0
    assert zoom(6.0, detect_object_px=0) == zoom(0.1) == CFG.detect_zoom  # off; unseen
    assert zoom(6.0, detect_zoom=1.0) == 1.0  # whole photographs


def test_enlarging_keeps_the_picture():
    image = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 8), (96, 128), mode="bicubic")
    image = image.clamp(0, 1)
    large = enlarged(image, 1.5)
    assert large.shape == (2, 3, 144, 192) and 0 <= large.min() and large.max() <= 1
    back = torch.nn.functional.interpolate(large, (96, 128), mode="area")
    torch.testing.assert_close(back, image, atol=0.02, rtol=0)
    assert enlarged(image, 1.0) is image
    assert enlarged(image[..., :50], 1.5).shape[-2:] == (144, 80)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("turned", [False, True])
def test_a_cpu_enlarges_as_a_gpu_does(dtype, turned):
    image = torch.rand(2, 3, 40, 56, dtype=dtype)[..., 3:]
    image = image.contiguous(memory_format=torch.channels_last) if turned else image
    wanted = torch.nn.functional.interpolate(image, (96, 128), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(enlarged(image, 2.4), wanted, atol=1e-4, rtol=0)


def test_what_differs_is_found_at_its_place_and_nothing_outside_the_window():
    models, cameras = pair(count=1500), [camera_at(7.0), camera_at(16.0, shift=0.8)]
    pictures = photos(models.colour, cameras)
    reflectance = photos(models.reflectance, cameras)
    for images in (pictures, reflectance):
        images[0] = images[0].clone()
        images[0][:, 190:200, 205:215] = 0.0
    shots = [Shot(*parts) for parts in zip(cameras, pictures, reflectance, strict=True)]
    assert len(close_ups(models, shots, CFG)) == 2  # sizes
    maps, drawn, counted = anomalies_at(models, shots, SeededNet(), CFG, None)
    assert maps.shape == (2, 400, 400) and drawn.shape == (2, 3, 400, 400)
    row, column = divmod(int(maps[0].argmax()), 400)
    assert 185 < row < 205 and 200 < column < 220
    assert maps[0].max() > 20 * maps[1].max()
    window = object_window(models, cameras[0])
    outside = maps[0].clone()
    window.cut(outside).zero_()
    assert outside.max() == 0
    assert (counted <= maps).all() and counted[0].max() > 0.97 * maps[0].max()  # it is darker
    torch.testing.assert_close(drawn[1], pictures[1], atol=1e-5, rtol=0)  # backdrop and all
    for index, shot in enumerate(shots):  # together as alone
        alone = anomalies_at(models, [shot], SeededNet(), CFG, None)[0][0]
        torch.testing.assert_close(maps[index], alone, atol=1e-5, rtol=1e-4)


def test_a_score_takes_less_of_what_is_seen_edge_on():
    models, camera = pair(count=4000), camera_at(4.0)
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(3, 400, 400, generator=generator) for _ in range(2))
    shot = Shot(camera, *images)  # differs everywhere
    maps, _, found = anomalies_at(models, [shot], SeededNet(), CFG, None)
    plain = anomalies_at(models, [shot], SeededNet(), replace(CFG, detect_facing=0.0), None)
    torch.testing.assert_close(maps, plain.maps)  # heat maps stay
    share = torch.where(plain.counted > 0, found / plain.counted, 1)[0]
    alpha = models.render(camera.viewmat(), camera.intrinsics).alpha[0]
    rows, columns = (alpha > 0.5).nonzero().unbind(1)
    row, column = int(rows.float().mean()), int(columns.float().mean())
    assert share[alpha < 0.01].min() > 0.95 and share[row, column] > 0.9
    assert share[row, columns.min() + 3 : columns.min() + 6].mean() < 0.75


def test_without_enlargement_whole_photographs_are_compared():
    models, camera = pair(), ring_of_cameras(1)[0]
    shot = Shot(camera, *(photos(model, [camera])[0] for model in (models.colour,) * 2))
    ((_, own, window),) = close_ups(models, [shot], replace(CFG, detect_zoom=1.0))[0]
    assert window == whole(camera) and torch.equal(own.photo, shot.photo)


def test_the_surface_says_how_it_faces_the_camera_and_where_it_shines():
    model = ball(count=4000)
    gloss = 0.1 * (model.means[:, 2:] > 0)  # the upper half
    models, camera = ModelPair(model, ball(count=4000, seed=1), gloss), camera_at(4.0)
    facing, shine = surface_maps(models, [camera], (100, 100))[0]
    alpha = models.render(camera.viewmat("cpu"), camera.intrinsics.resized(100, 100)).alpha[0]
    rows, columns = (alpha > 0.5).nonzero().unbind(1)
    middle = int(rows.float().mean()), int(columns.float().mean())
    assert facing[alpha < 0.01].max() < 0.01
    assert facing[middle[0] - 3 : middle[0] + 3, middle[1] - 3 : middle[1] + 3].mean() > 0.9
    column = facing[middle[0], columns.min() + 3 : columns.min() + 5]
    assert column.mean() < 0.75 * facing[middle]
    assert shine[rows.min() + 8, middle[1]] > 0.8 and shine[rows.max() - 8, middle[1]] < 0.2


def test_cameras_rendered_together_see_what_each_sees_alone():
    models = pair()
    cameras = [camera_at(5.0).cropped(x, y, 200, 180) for x, y in ((90, 110), (60, 130))]
    taught = torch.rand(len(models.colour.means), 5, generator=torch.Generator().manual_seed(0))
    normality = Normality(taught, torch.full((5,), 0.1), torch.ones(5))
    seen, usual = models.render_views(cameras), normality.maps(models.colour, cameras)
    surface = surface_maps(models, cameras, (45, 50))
    for index, camera in enumerate(cameras):
        alone = models.render(camera.viewmat(), camera.intrinsics)
        torch.testing.assert_close(seen.image[index], alone.image)
        torch.testing.assert_close(seen.depth[index], alone.depth)
        torch.testing.assert_close(seen.cover[index], alone.alpha[:1])
        torch.testing.assert_close(usual[index], normality.maps(models.colour, [camera])[0])
        torch.testing.assert_close(surface[index], surface_maps(models, [camera], (45, 50))[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_compares_close_ups_as_the_cpu_does():
    features, cfg = load_features(DetectConfig()), DetectConfig(detect_normal_views=4)
    change = load_change_net(cfg, features, "cpu")
    gloss = 0.1 * (ball(count=1500).means[:, 2:] > 0)
    models = ModelPair(ball(count=1500), ball(count=1500, seed=1), gloss)
    cameras = [camera_at(7.0), camera_at(11.0, shift=0.8), camera_at(7.5)]
    pictures = photos(models.colour, cameras), photos(models.reflectance, cameras)
    for images in pictures:
        images[0] = images[0].clone()
        images[0][:, 190:200, 205:215] = 0.0
    shots = [Shot(*parts) for parts in zip(cameras, *pictures, strict=True)]
    taught = torch.rand(1500, 12, generator=torch.Generator().manual_seed(0))
    normality = Normality(0.05 + 0.1 * taught, torch.full((12,), 0.05), torch.full((12,), 0.1))
    expected, _, counts = anomalies_at(models, shots, features, cfg, normality, change)
    on_gpu = ModelPair(models.colour.to("cuda"), models.reflectance.to("cuda"), gloss.cuda())
    there = Normality(*(getattr(normality, k).cuda() for k in ("gaussians", "backdrop", "scale")))
    nets = features.cuda(), cfg, there, change.cuda()
    found, drawn, counted = anomalies_at(on_gpu, shots, *nets)
    assert drawn.is_cuda
    assert expected.max() > 1
    near = {"atol": 0.02 * float(expected.max()), "rtol": 0.05}
    torch.testing.assert_close(found.cpu(), expected, **near)
    torch.testing.assert_close(counted.cpu(), counts, **near)
    torch.testing.assert_close(
        surface_maps(on_gpu, cameras, (96, 96)).cpu(),
        surface_maps(models, cameras, (96, 96)),
        atol=2e-3,
        rtol=1e-3,
    )
