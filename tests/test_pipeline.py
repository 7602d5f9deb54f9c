"""Both scripts on a class that no code knows: a folder and a config of three lines."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import AUROC_TEST
import pose_estimation
from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_image, write_json
from gaussian_renderer.render import render
from gaussian_renderer.se3 import pose_error
from piad.judge import photograph_table
from piad.locate import contenders
from retrieval import Hypothesis, StartPose
from tests.gaussian_scene import look_at
from tests.test_pose_refinement import speckled_shell

FOV_X = 0.6
SIDE = 64
FAST = "--resolution 64 --iterations 400 --initial_points 500 --max_gaussians 1500"
FAST += " --densify_until 0 --sh_degree 0 --coarse_factor 1 --match_views 0"
FAST += " --start_virtual_views 12 --start_rotations 1 --start_candidates 3 --start_aligned 2"
FAST += " --start_align_steps 6"
FAST += " --start_model_steps 150"
FAST += " --iter_num 60 --device cpu"
FAST += " --false_alarm_typical 8"  # so small, flawless photographs score more than large ones

ARGUMENTS = ["--config", "Widget.txt", *FAST.split()]


def positions(num, seed):
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=1)
    directions[:, 2] *= 0.5
    return (3 * torch.nn.functional.normalize(directions, dim=1)).tolist()


def write_widget(root):
    """A speckled shell: 14 gallery views, two flawless queries and a stained one, with poses."""
    shell, intrinsics = speckled_shell(), Intrinsics.from_fov_x(FOV_X, SIDE, SIDE)
    gallery = [Camera(intrinsics, look_at(p)) for p in positions(14, 1)]
    queries = [Camera(intrinsics, look_at(p)) for p in positions(3, 2)]
    names = ("good_A/000", "good_B/000", "stain/000")
    with torch.no_grad():
        for index, camera in enumerate(gallery):
            write_image(root / f"train/{index:03d}.png", render(shell, camera).image)
        for name, camera in zip(names, queries, strict=True):
            image = render(shell, camera).image
            if name.startswith("good_B"):
                image = image * torch.tensor([1.0, 0.9, 0.75])[:, None, None]
            if name.startswith("stain"):
                image[:, 26:38, 26:38] = torch.tensor([0.05, 0.3, 0.05])[:, None, None]
                mask = torch.zeros(1, SIDE, SIDE)
                mask[:, 26:38, 26:38] = 1
                write_image(root / "ground_truth/stain/000.png", mask)
            write_image(root / f"test/{name}.png", image)

    def frames(pairs):
        return [
            {"file_path": name, "transform_matrix": camera.camera_to_world_opengl.tolist()}
            for name, camera in pairs
        ]

    train = [(f"train/{index:03d}", camera) for index, camera in enumerate(gallery)]
    write_json(root / "transforms.json", {"camera_angle_x": FOV_X, "frames": frames(train)})
    return dict(zip(names, queries, strict=True))


@pytest.fixture(scope="module")
def widget(tmp_path_factory):
    """The folder of a finished run of both scripts, and the queries' true cameras."""
    folder = tmp_path_factory.mktemp("widget")
    truth = write_widget(folder / "data" / "MIP" / "Widget")
    config = folder / "Widget.txt"
    config.write_text("class_name = Widget\ndata_dir = data/MIP\ndataset_type = MIP\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pose_estimation.main(ARGUMENTS)
        AUROC_TEST.main(["--obj", "Widget"])
    return folder, truth


def test_a_new_class_gets_poses_and_scores_without_touching_code(widget):
    folder, truth = widget
    records = json.loads((folder / "output/Widget/poses.json").read_text())["queries"]
    assert [record["id"] for record in records] == sorted(truth)
    for record in records:
        pose = torch.tensor(record["camera_to_world"], dtype=torch.float64)
        found = Camera.from_opengl(truth[record["id"]].intrinsics, pose)
        angle, _ = pose_error(found.world_to_camera, truth[record["id"]].world_to_camera)
        assert record["status"] == "ok" and angle < 3, record["id"]
    results = json.loads((folder / "AD_result/Widget/results.json").read_text())
    assert results["num_queries"] == 3
    assert results["image_auroc"] == 1.0 and results["pixel_auroc"] > 0.95
    assert set(results["weights"]) >= {"features", "reflectance", "start_features"}


def test_a_run_leaves_models_renderings_and_an_animation(widget):
    folder, _ = widget
    for name in ("ckpts", "Rckpts"):
        assert (folder / name / "Widget/point_cloud/iteration_400/point_cloud.ply").is_file()
    for index in range(3):
        made = {path.name for path in (folder / f"output/Widget/Widget_{index}").iterdir()}
        assert made == {"ref.png", "rgb8.png", "Rref.png", "Rrgb8.png", "overlay.gif"}


def test_a_second_run_trains_nothing_and_repeats_no_query(widget, monkeypatch, capsys):
    folder, _ = widget
    monkeypatch.chdir(folder)
    before = (folder / "output/Widget/poses.json").read_text()
    forbidden = pytest.MonkeyPatch()

    def never(*args, **kwargs):
        raise AssertionError("done already")

    with forbidden.context() as patch:
        patch.setattr("piad.models.fit", never)
        patch.setattr("piad.locate.PoseInitialiser", never)
        pose_estimation.main(ARGUMENTS)
    assert (folder / "output/Widget/poses.json").read_text() == before
    assert "have their pose already" in capsys.readouterr().out


def test_models_of_another_version_of_the_fit_are_fitted_anew(widget, tmp_path, monkeypatch):
    shutil.copytree(widget[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    class Fitted(Exception):
        pass

    def fit(*args, **kwargs):
        raise Fitted

    monkeypatch.setattr("piad.models.fit", fit)
    pose_estimation.main(ARGUMENTS)  # nothing to do
    monkeypatch.setattr("piad.models.FIT_VERSION", 0)
    with pytest.raises(Fitted):
        pose_estimation.main(ARGUMENTS)


def test_a_query_that_is_taken_away_and_put_back_is_done_alone(widget, monkeypatch):
    folder, _ = widget
    monkeypatch.chdir(folder)
    path = folder / "output/Widget/poses.json"
    content = json.loads(path.read_text())
    kept = [record for record in content["queries"] if record["id"] != "stain/000"]
    write_json(path, {**content, "queries": kept})
    seen = []
    from piad import locate, refusal

    refine = locate.refine_poses
    monkeypatch.setattr(locate, "refine_poses", lambda *a: seen.extend(a[0]) or refine(*a))
    monkeypatch.setattr(refusal, "closeness", None)  # the gallery's own agreement was kept
    pose_estimation.main(ARGUMENTS)
    assert len(seen) == 1
    assert len(json.loads(path.read_text())["queries"]) == 3


def test_queries_refined_in_batches_have_the_poses_of_one_by_one(widget, monkeypatch, capsys):
    folder, _ = widget
    monkeypatch.chdir(folder)
    path = folder / "output/Widget/poses.json"
    content = json.loads(path.read_text())
    write_json(path, {**content, "queries": []})
    sizes = []
    from piad import locate

    refine = locate.refine_poses
    monkeypatch.setattr(locate, "refine_poses", lambda *a: sizes.append(len(a[0])) or refine(*a))
    pose_estimation.main([*ARGUMENTS, "--refine_batch", "2"])
    assert sizes == [2, 1]
    for before, now in zip(
        content["queries"], json.loads(path.read_text())["queries"], strict=True
    ):
        assert now["id"] == before["id"] and now["status"] == before["status"]
        for key in ("start_camera_to_world", "camera_to_world"):
            assert torch.allclose(torch.tensor(now[key]), torch.tensor(before[key]), atol=1e-4)
    capsys.readouterr()
    pose_estimation.main(ARGUMENTS)  # the size of a batch is nothing that poses depend on
    assert "have their pose already" in capsys.readouterr().out


@pytest.mark.parametrize("geometry", ["shared", "separate"])
def test_the_models_may_share_their_geometry_or_not(widget, geometry, monkeypatch, tmp_path):
    folder, _ = widget
    monkeypatch.chdir(folder)
    where = f"--output_dir {tmp_path}/o --ckpt_dir {tmp_path}/c --reflectance_ckpt_dir {tmp_path}/r"
    few = f"--model_geometry {geometry} --iterations 20 --frozen_iterations 10 --iter_num 4"
    arguments = [*FAST.split(), *where.split(), *few.split()]
    pose_estimation.main(["--config", "Widget.txt", *arguments])
    assert (tmp_path / "r/Widget/model.safetensors").is_file()
    assert (tmp_path / "o/Widget/poses.json").is_file()


def test_the_original_preset_runs_both_scripts(widget, monkeypatch, tmp_path):
    """With 40 steps instead of 30 000; its matcher's stand-in is SIFT, which needs no weights."""
    folder, _ = widget
    monkeypatch.chdir(folder)
    where = f"--output_dir {tmp_path}/o --ckpt_dir {tmp_path}/c --reflectance_ckpt_dir {tmp_path}/r"
    where += f" --result_dir {tmp_path}/a --reflection_dir {tmp_path}/f"
    few = "--preset original --matcher sift --iterations 40 --initial_points 300 --iter_num 5"
    fast = ["--resolution", "64", "--device", "cpu"]
    pose_estimation.main(["--config", "Widget.txt", *fast, *where.split(), *few.split()])
    AUROC_TEST.main(["--obj", "Widget", *where.split()])
    results = json.loads((tmp_path / "a/Widget/results.json").read_text())
    assert results["preset"] == "original" and len(results["queries"]) == 3
    photo = folder / "data/MIP/Widget/test/stain/000.png"
    alone = [*fast, *where.split(), *few.split(), "--query", str(photo)]
    pose_estimation.main(["--config", "Widget.txt", *alone])
    (record,) = json.loads((tmp_path / "o/Widget/query/results.json").read_text())["photographs"]
    assert record["verdict"] in ("ok", "defect")
    assert record["score"] == next(q for q in results["queries"] if q["id"] == "stain/000")["score"]


@pytest.mark.parametrize("refiner", ["second_order", "adam"])
def test_a_foreign_photograph_is_refused_after_refinement(
    widget, refiner, monkeypatch, tmp_path, capsys
):
    """With the start pose's own verdict switched off."""
    folder, _ = widget
    monkeypatch.chdir(folder)
    foreign = folder / "data/MIP/Widget/test/good_A/001.png"
    rough = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    write_image(foreign, torch.nn.functional.interpolate(rough, (SIDE, SIDE), mode="bilinear")[0])
    where = f"--output_dir {tmp_path}/o --result_dir {tmp_path}/a"
    args = ["--config", "Widget.txt", *FAST.split(), *where.split(), "--refiner", refiner]
    # in photographs of 64 px windows of 9 px agree by chance: the default limit is for larger ones
    args += ["--start_min_similarity", "-1", "--refuse_below", "0.25"]
    try:
        pose_estimation.main(args)
        said = capsys.readouterr().out
        AUROC_TEST.main(["--obj", "Widget", *where.split()])
    finally:
        foreign.unlink()
    records = json.loads((tmp_path / "o/Widget/poses.json").read_text())["queries"]
    refused = {record["id"]: record["refused"] for record in records if record["refused"]}
    assert list(refused) == ["good_A/001"] and refused["good_A/001"]["figure"] == "agreement"
    # worst seen: 0.84 of the limit
    assert refused["good_A/001"]["value"] < 0.9 * refused["good_A/001"]["limit"]
    assert "not found: good_A/001 (agreement 0." in said
    for record in records:
        if record["status"] == "ok":
            assert record["agreement"] > 1.5 * record["agreement_limit"], record["id"]
    results = json.loads((tmp_path / "a/Widget/results.json").read_text())
    assert results["num_not_found"] == 1


def test_scoring_before_posing_names_the_next_step(widget, monkeypatch, tmp_path):
    folder, _ = widget
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"pose_estimation\.py"):
        AUROC_TEST.main(["--obj", "Widget", "--output_dir", str(tmp_path)])


def test_the_start_pose_leads_the_hypotheses_and_comes_once():
    eye = torch.eye(4, dtype=torch.float64)
    hypotheses = [Hypothesis(eye * k, 0.6, 10, 0, "matches") for k in (1.0, 2.0, 3.0)]
    start = StartPose(eye * 2.0, 10, 0.6, "ok", hypotheses)
    assert [pose[0, 0].item() for pose in contenders(start)] == [2.0, 1.0, 3.0]


def digests(*folders):
    """{file: its bytes} of everything below the folders."""
    return {
        path: path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def judged(widget, tmp_path_factory):
    """A stained and a flawless query as photographs from elsewhere, judged; {folder: record}."""
    folder, _ = widget
    outside = tmp_path_factory.mktemp("outside")
    photographs = [outside / "a" / "000.png", outside / "b" / "000.png"]
    for path, name in zip(photographs, ("stain/000", "good_A/000"), strict=True):
        path.parent.mkdir()
        shutil.copy(folder / f"data/MIP/Widget/test/{name}.png", path)
    kept = [folder / "AD_result", folder / "data", folder / "ckpts", folder / "Rckpts"]
    files = [folder / "output/Widget" / name for name in ("poses.json", "config.txt")]
    before = digests(*kept), [path.read_bytes() for path in files]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("piad.models.fit", None)  # the models are there
        # the run's settings hold: the tiny models need not be asked for again
        pose_estimation.main(["--config", "Widget.txt", "--query", *map(str, photographs)])
    assert before == (digests(*kept), [path.read_bytes() for path in files])
    results = json.loads((folder / "output/Widget/query/results.json").read_text())
    return folder, results


def test_photographs_alone_get_the_pose_and_score_that_the_same_query_has(judged):
    folder, results = judged
    poses = json.loads((folder / "output/Widget/poses.json").read_text())["queries"]
    scored = json.loads((folder / "AD_result/Widget/results.json").read_text())
    poses, scores = ({r["id"]: r for r in records} for records in (poses, scored["queries"]))
    stain, good = results["photographs"]
    for record, name, stem in ((stain, "stain/000", "000"), (good, "good_A/000", "000_2")):
        own = folder / "output/Widget/query" / stem
        assert Path(record["folder"]) == own.relative_to(folder)
        pose = json.loads((own / "pose.json").read_text())
        assert (
            pose["camera_to_world"] == poses[name]["camera_to_world"] == record["camera_to_world"]
        )
        assert set(pose) == set(poses[name]) and pose["status"] == record["status"] == "ok"
        assert record["score"] == scores[name]["score"]
        made = {path.name for path in own.iterdir()}
        assert made >= {"pose.json", "ref.png", "heat.png", "figure.png"}
    assert results["threshold"] == scored["label_free"]["threshold"]
    assert (stain["verdict"], good["verdict"]) == ("defect", "ok")
    assert scores["stain/000"]["label_free_verdict"] == "defect"
    assert set(results["weights"]) >= {"features", "reflectance", "start_features"}


def test_the_table_of_photographs_says_status_score_threshold_and_verdict(judged):
    _, results = judged
    lines = photograph_table(results).splitlines()
    assert lines[0].split() == ["photograph", "status", "score", "threshold", "verdict"]
    assert lines[2].split()[-1] == "defect" and lines[3].split()[-1] == "ok"
    assert "simulated light" in lines[4]
    assert f"{results['photographs'][0]['score']:.4g}" in lines[2]


def test_another_call_takes_its_own_photographs_and_refuses_what_does_not_fit(
    judged, monkeypatch, tmp_path
):
    folder, _ = judged
    monkeypatch.chdir(folder)
    query, grey = folder / "output/Widget/query", tmp_path / "grey.png"
    write_image(grey, torch.full((3, SIDE, SIDE), 0.5))
    pose_estimation.main([*ARGUMENTS, "--query", str(grey)])
    (record,) = json.loads((query / "results.json").read_text())["photographs"]
    assert (record["verdict"], record["score"]) == ("not found", None) and record["message"]
    assert json.loads((query / "grey/pose.json").read_text())["status"] == "not_found"
    assert {p.name for p in (query / "grey").iterdir()} == {"pose.json", "heat.png", "figure.png"}
    before = digests(query)
    with pytest.raises(UserError, match="move the photograph out"):
        pose_estimation.main([*ARGUMENTS, "--query", str(query / "grey/heat.png")])
    monkeypatch.setattr("pose_estimation.RunFolder", None)  # nothing is begun
    for wrong in (tmp_path / "none.png", tmp_path):
        with pytest.raises(UserError, match="name photographs after --query"):
            pose_estimation.main([*ARGUMENTS, "--query", str(grey), str(wrong)])
    assert digests(query) == before
    with pytest.raises(UserError, match="unknown option --query"):
        AUROC_TEST.main(["--obj", "Widget", "--query", str(grey)])
