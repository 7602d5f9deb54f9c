"""Where the object lies in a photograph, and photographs framed as the gallery is."""

import math

import pytest
import torch

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.render import render
from retrieval.framing import ZOOM_STEP, GalleryFraming, Photograph, framing, towards
from tests.retrieval_scene import SIZE, orbit, patchwork, query_camera, shoot

PINHOLE = Intrinsics(100.0, 100.0, 20.0, 15.0, 40, 30)


def alphas(model, cameras):
    with torch.no_grad():
        return torch.stack([render(model, camera).alpha for camera in cameras])


def photograph(model, camera):
    """A query and its silhouette, as the camera takes them."""
    shape = render(model, camera).alpha.detach()
    return Photograph.plain(*shoot(model, camera), shape, camera.intrinsics)


@pytest.fixture(scope="module")
def gallery():
    model, cameras = patchwork(600), orbit()
    return model, GalleryFraming(alphas(model, cameras), cameras[0].intrinsics)


def test_size_and_place_of_a_rectangle():
    shape = torch.zeros(2, 1, 30, 40)
    shape[0, :, 10:20, 30:34] = 1  # 4 x 10 px about column 32, row 15
    size, across, down = framing(shape, PINHOLE)[0].tolist()
    assert size == pytest.approx(math.sqrt(40) / 100)
    assert (across, down) == pytest.approx((0.12, 0.0))
    assert framing(shape, PINHOLE)[1].isnan().all()


def test_the_turn_brings_a_direction_onto_the_axis():
    direction = torch.tensor([0.3, -0.2, 1.0]).double()
    turn = towards(0.3, -0.2)
    expected = torch.tensor([0, 0, 1]).double() * direction.norm()
    torch.testing.assert_close(turn @ direction, expected)
    torch.testing.assert_close(turn @ turn.T, torch.eye(3).double())
    assert torch.linalg.det(turn) == pytest.approx(1)


def test_a_query_from_the_gallerys_distance_stays_as_it_is(gallery):
    model, known = gallery
    query = photograph(model, query_camera(0.6))
    assert known.fitted(query) is query


@pytest.mark.parametrize("radius", [5.6, 7.4])
def test_a_distant_query_is_framed_as_a_longer_lens_there_shows_it(gallery, radius):
    model, known = gallery
    camera = query_camera(0.6, radius=radius)
    framed = known.fitted(photograph(model, camera))
    assert framed.zoom == pytest.approx(radius / 3.6, rel=0.12)
    seen = framing(framed.silhouette[None], framed.intrinsics)[0]
    assert seen[1:].norm() < 0.01  # in the middle
    lens = Camera(framed.intrinsics, framed.turn @ camera.world_to_camera)
    assert (framed.image - shoot(model, lens)[0]).abs().mean() < 0.02
    apparent = framing(framed.silhouette[None], framed.at_gallerys_distance)[0, 0]
    assert float(apparent) == pytest.approx(known.size, rel=0.12)


def test_a_query_from_close_by_keeps_its_pixels(gallery):
    model, known = gallery
    query = photograph(model, query_camera(0.6, radius=2.4))
    framed = known.fitted(query)
    assert torch.equal(framed.image, query.image) and framed.intrinsics == query.intrinsics
    assert framed.zoom == pytest.approx(2.4 / 3.6, rel=0.12)


def test_an_object_off_the_middle_is_looked_at(gallery):
    model, known = gallery
    wide = Intrinsics.from_fov_x(1.3, 2 * SIZE, 2 * SIZE)
    camera = query_camera(0.6, intrinsics=wide)
    aside = torch.eye(4).double()
    aside[:3, :3] = towards(0.4, 0.1)
    framed = known.fitted(photograph(model, camera.with_pose(aside @ camera.world_to_camera)))
    assert framed.zoom == pytest.approx(1)
    middle = framing(framed.silhouette[None], framed.intrinsics)[0, 1:]
    assert middle.norm() < 0.03  # perspective had stretched the silhouette outwards; was 0.4


def test_nothing_is_told_by_a_model_that_fills_its_views_or_by_no_silhouette(gallery):
    model, known = gallery
    full = GalleryFraming(torch.ones(3, 1, SIZE, SIZE), orbit()[0].intrinsics)
    query = photograph(model, query_camera(0.6, radius=7.4))
    assert full.fitted(query) is query
    blind = Photograph.plain(query.image, query.reflectance, None, query.intrinsics)
    assert known.fitted(blind) is blind


def test_zooms_are_few():
    query = Photograph.plain(torch.rand(3, 30, 40), torch.rand(3, 30, 40), None, PINHOLE)
    zooms = {round(query.framed(1 + i / 100).zoom, 6) for i in range(100)}
    assert zooms == {round(ZOOM_STEP**k, 6) for k in range(8)}
