"""Queries refined together end where they end one by one, on every device."""

import math
from dataclasses import replace

import pytest
import torch

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.se3 import pose_error, se3_exp
from piad.agreement import likeness_of
from piad.models import ModelPair
from piad.pose import RefineConfig, refine_pose, refine_poses
from piad.target import Target, find_silhouette
from retrieval.compare import shrunk
from retrieval.replay import RECORDED_FROM, _recorder

SIDE = 96
NUM = 260
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def object_models(shared: bool) -> ModelPair:
    """An irregular blob of opaque Gaussians, in two colourings."""
    g = torch.Generator().manual_seed(0)
    means = torch.randn(NUM, 3, generator=g) * torch.tensor([0.5, 0.35, 0.25])
    means[:60] += torch.tensor([0.6, 0.3, 0.0])  # lopsided, so that every turn shows
    quats = torch.randn(NUM, 4, generator=g)
    pair = [
        GaussianModel(
            means=means if shared else means + 1e-6 * index,
            quats=quats,
            log_scales=torch.full((NUM, 3), math.log(0.07)),
            logit_opacities=torch.full((NUM,), 3.0),
            sh=0.8 * torch.randn(NUM, 1, 3, generator=g),
            background=torch.full((3,), background),
        )
        for index, background in enumerate((1.0, 0.9))
    ]
    return ModelPair(*pair)


def pose_at(*turn: float) -> torch.Tensor:
    pose = se3_exp(torch.tensor([0.0, 0, 0, *turn], dtype=torch.float64))
    pose[:3, 3] = torch.tensor([0.05, -0.05, 4.0], dtype=torch.float64)
    return pose


def turned(pose: torch.Tensor, degrees: float, shift: float) -> torch.Tensor:
    axis = torch.tensor([1.0, 1.0, -0.5], dtype=torch.float64)
    turn = se3_exp(torch.cat([torch.zeros(3).double(), axis / axis.norm() * math.radians(degrees)]))
    moved = pose.clone()
    moved[:3, :3] = turn[:3, :3] @ pose[:3, :3]
    moved[:3, 3] += shift
    return moved


def on_device(target: Target, device: str) -> Target:
    values = vars(target).values()
    return Target(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in values))


def problem(models: ModelPair):
    """Six queries: other poses, lights, backdrops and sizes; one or several starts each."""
    targets, starts, truth = [], [], []
    poses = [pose_at(0.3, -0.5, 0.2), pose_at(-0.4, 0.2, 0.1), pose_at(0.1, 0.9, -0.3)]
    for index, pose in enumerate([*poses, *poses]):
        side = SIDE if index < 5 else 80
        intrinsics = Intrinsics.from_fov_x(0.7, side, side)
        image = models.render(pose.float(), intrinsics).over(models.background)
        gain = 1 - 0.08 * index
        backdrop = models.background * gain
        shape = find_silhouette(image, models.background)
        target = Target(image * gain, backdrop, intrinsics, shape)
        if index == 3:
            target = replace(target, backdrop=None, silhouette=None)
        targets.append(target)
        hypotheses = [turned(pose, 1 + 1.5 * index, 0.02)]
        if index in (1, 4):
            hypotheses = [turned(pose, 50, 0.0), *hypotheses]
        starts.append(hypotheses)
        truth.append(pose)
    return targets, starts, truth


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shared", [True, False])
def test_queries_refined_together_end_as_one_by_one(shared, device):
    models = object_models(shared)
    targets, starts, truth = problem(models)
    models = ModelPair(models.colour.to(device), models.reflectance.to(device))
    targets = [on_device(target, device) for target in targets]
    cfg = RefineConfig()
    together = refine_poses(targets, starts, models, cfg)
    assert len(together) == len(targets)
    for target, hypotheses, pose, found in zip(targets, starts, truth, together, strict=True):
        alone = refine_pose(target, hypotheses, models, cfg)
        angle, shift = pose_error(found.world_to_camera, alone.world_to_camera)
        assert angle < 2e-3 and shift < 2e-4
        assert found.loss == pytest.approx(alone.loss, rel=1e-3)
        assert found.agreement == pytest.approx(alone.agreement, abs=1e-3)
        assert found.steps == alone.steps
        assert (found.likeness is None) == (alone.likeness is None)
        assert found.likeness is None or found.likeness == pytest.approx(alone.likeness, abs=1e-3)
        assert torch.equal(found.trace[0], alone.trace[0])
        assert pose_error(found.world_to_camera, pose)[0] < 0.3


@pytest.mark.parametrize("device", DEVICES)
def test_likeness_of_many_is_that_of_each(device):
    """A pooling that reads one alpha for all of them was seen on CUDA."""
    models = object_models(True)
    targets, _, truth = problem(models)
    models = ModelPair(models.colour.to(device), models.reflectance.to(device))
    target = Target.stacked([on_device(target, device) for target in targets[:3]])
    small, poses = shrunk(target.image, target.silhouette), torch.stack(truth[:3])
    found = likeness_of(small, target, poses, models)
    each = [likeness_of(small[i : i + 1], target, poses[i : i + 1], models)[0] for i in range(3)]
    assert found == pytest.approx(each, abs=1e-5)
    swapped = likeness_of(small, target, poses[[1, 2, 0]], models)
    assert min(found) > max(swapped) + 0.2


@pytest.mark.skipif("cuda" not in DEVICES, reason="needs a GPU")
def test_a_gpu_ends_where_the_cpu_does():
    models = object_models(True)
    targets, starts, _ = problem(models)
    here = refine_poses(targets, starts, models, RefineConfig())
    models = ModelPair(models.colour.to("cuda"), models.reflectance.to("cuda"))
    there = refine_poses(
        [on_device(target, "cuda") for target in targets], starts, models, RefineConfig()
    )
    for a, b in zip(here, there, strict=True):
        angle, shift = pose_error(a.world_to_camera, b.world_to_camera)
        assert angle < 0.02 and shift < 2e-3


@pytest.mark.skipif("cuda" not in DEVICES, reason="needs a GPU")
def test_a_gpu_refines_a_query_alike_whether_its_steps_are_recorded():
    """Steps of a shape that came twice are replayed from then on."""
    models = object_models(True)
    targets, starts, _ = problem(models)
    pairs = list(zip(targets, starts, strict=True))
    here = [refine_pose(*query, models, RefineConfig()) for query in pairs]
    models = ModelPair(models.colour.to("cuda"), models.reflectance.to("cuda"))
    pairs = [(on_device(target, "cuda"), hypotheses) for target, hypotheses in pairs]
    for _ in range(RECORDED_FROM + 1):
        for query, expected in zip(pairs, here, strict=True):
            found = refine_pose(*query, models, RefineConfig())
            angle, shift = pose_error(found.world_to_camera, expected.world_to_camera)
            assert angle < 0.02 and shift < 2e-3
            assert found.agreement == pytest.approx(expected.agreement, abs=1e-3)
    assert len(_recorder(pairs[0][0].image.device).recordings) >= 3  # search, vote, agreement
