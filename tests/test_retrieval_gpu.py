"""Start poses on a GPU: recorded functions, and the poses that the CPU finds."""

import pytest
import torch

from gaussian_renderer.area import area_average
from gaussian_renderer.constants import constant
from gaussian_renderer.se3 import pose_error
from retrieval import InitialPoseConfig, PoseInitialiser
from retrieval.compare import window_sums
from retrieval.replay import RECORDED_FROM, Recorder
from tests.retrieval_scene import orbit, patchwork, query_camera, shoot
from tests.test_retrieval_start_pose import CFG

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_a_recorded_function_gives_what_it_gives_unrecorded():
    recorder, shared = Recorder(), torch.tensor([2.0, 3.0], device="cuda")

    def scaled(factors, rows):
        return rows * factors, rows.sum(1)

    for count in [5] * (RECORDED_FROM + 2) + [6, 3]:
        rows = torch.rand(count, 2, device="cuda")
        found = recorder.run("scaled", scaled, (shared,), (rows,))
        for one, expected in zip(found, scaled(shared, rows), strict=True):
            torch.testing.assert_close(one, expected)
    assert len(recorder.recordings) == 1  # 5 and 6 rows are both seen as 6


def test_constants_that_a_recording_reads_stay():
    recorder, x = Recorder(), torch.ones(1, 2, device="cuda")

    def scaled(rows):
        return (rows * constant((2.0, 3.0), rows),)

    for _ in range(RECORDED_FROM):
        recorder.run("constant", scaled, (), (x,))
    assert len(recorder.recordings) == 1
    for number in range(2000):  # more than are kept for others
        constant((float(number), 0.5), x)
    assert recorder.run("constant", scaled, (), (x,))[0].tolist() == [[2, 3]]


@pytest.mark.parametrize("channels", [slice(0, 6), slice(6, 7)])
def test_pools_on_a_gpu_are_those_on_a_cpu(channels):
    images = torch.rand(3, 8, 48, 60, generator=torch.Generator().manual_seed(1))
    there = images.cuda()[:, channels]
    for pool in (
        window_sums,
        lambda x: area_average(x, (24, 30)),
        lambda x: area_average(x, (7, 9)),
    ):
        torch.testing.assert_close(pool(there).cpu(), pool(images[:, channels].clone()))


def test_start_poses_on_a_gpu_are_those_on_a_cpu(tmp_path):
    model, cameras = patchwork(), orbit()
    shots = [shoot(model, camera) for camera in cameras]
    cfg = InitialPoseConfig(**CFG)
    on_cpu, on_gpu = (
        PoseInitialiser(cameras, *zip(*shots, strict=True), model, cfg, tmp_path, device)
        for device in ("cpu", "cuda")
    )
    queries = [query_camera(turn) for turn in (0.6, 1.7, 2.9, 4.0, 5.1)]
    taken = [shoot(model, camera) for camera in queries]
    pinholes = [camera.intrinsics for camera in queries]
    together = on_gpu.locate_many(*zip(*taken, strict=True), pinholes, [None] * len(taken))
    for shot, camera, start in zip(taken, queries, together, strict=True):
        expected = on_cpu.locate(*shot, camera.intrinsics)
        alone = on_gpu.locate(*shot, camera.intrinsics)  # the last of them from recordings
        for found in (start, alone):
            angle, shift = pose_error(found.world_to_camera, expected.world_to_camera)
            assert angle < 0.2 and shift < 0.02
            assert found.confidence == pytest.approx(expected.confidence, abs=5e-3)
