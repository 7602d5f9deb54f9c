"""A run's folders: stages, poses, the lock, and going on after a stop."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussian_renderer.errors import UserError
from piad.config import Config, PoseConfig, TestConfig
from piad.poses import PoseStore
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.stage import Stage
from tests.scene_builder import poses, write_mip, write_photo

ROOT = Path(__file__).parents[1]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mip(tmp_path / "data" / "MIP" / "Can")
    return PoseConfig.from_command_line(["--class_name", "Can"])


def record(index: int = 0, **more) -> dict:
    return {"status": "ok", "camera_to_world": poses(3)[index], "loss": 0.25, **more}


def test_paths_are_those_of_the_design(settings):
    with RunFolder.open(settings) as run:
        assert run.root == Path("output/Can") and run.results == Path("AD_result/Can")
        assert run.reflection == Path("reflection/MIP/Can")
        assert run.gaussians("colour") == Path("ckpts/Can")
        assert run.gaussians("reflectance") == Path("Rckpts/Can")
        assert Config.from_file(run.root / "config.txt").values() == settings.values()


def test_ckpt_name_moves_the_models(settings):
    settings.ckpt_name = "night"
    assert RunFolder(settings).gaussians("colour") == Path("ckpts/night")


def test_query_folders_count_over_types_then_files(settings, tmp_path):
    write_photo(tmp_path / "data" / "MIP" / "Can" / "test" / "good_A" / "7.png")
    with RunFolder.open(settings) as run:
        folders = run.query_folders(load_scene(settings.data, "Can"))
    assert folders == {
        "burr/000": Path("output/Can/Can_0"),
        "good_A/7": Path("output/Can/Can_1"),
        "good_B/000": Path("output/Can/Can_2"),
    }


def test_unknown_class_leaves_nothing_behind(settings, tmp_path):
    settings.class_name = "Cam"
    with pytest.raises(UserError, match="did you mean Can"):
        RunFolder.open(settings)
    assert not (tmp_path / "output").exists()


def test_scoring_without_poses_says_what_to_run(settings, tmp_path):
    with pytest.raises(UserError, match="no poses.json in output/Can; run first: python pose_est"):
        RunFolder.open(TestConfig.from_command_line(["--obj", "Can"]))
    assert not (tmp_path / "output").exists()
    with RunFolder.open(settings) as run:
        run.poses.add("burr/000", record())
    before = (tmp_path / "output" / "Can" / "config.txt").read_text()
    with RunFolder.open(TestConfig.from_command_line(["--obj", "Can", "--seed", "4"])) as run:
        assert len(run.poses) == 1
    assert (tmp_path / "output" / "Can" / "config.txt").read_text() == before


def test_poses_survive_a_stop_and_know_their_settings(settings):
    with RunFolder.open(settings) as run:
        run.poses.header["weights"] = {"matcher": "XFeat"}
        run.poses.add("burr/000", record(), {"steps": 10, "size": (4, 5)})
    with RunFolder.open(settings) as run:
        assert run.poses.done("burr/000") and "burr/000" in run.poses
        assert run.poses.done("burr/000", {"size": [4, 5], "steps": 10})
        assert not run.poses.done("burr/000", {"steps": 11, "size": (4, 5)})
        assert not run.poses.done("good_B/000")
        assert run.poses["burr/000"]["camera_to_world"] == poses(3)[0]
        assert run.poses.header == {"class_name": "Can", "weights": {"matcher": "XFeat"}}


def test_poses_json_has_the_agreed_form(tmp_path):
    store = PoseStore(tmp_path / "poses.json", "Can")
    matrix = torch.tensor(poses(1)[0], dtype=torch.float64)
    store.add("z/1", {"status": "not_found", "camera_to_world": None, "loss": float("nan")})
    store.add("a/1", {"status": "ok", "camera_to_world": matrix, "steps": np.int64(3), "x": (1, 2)})
    content = json.loads((tmp_path / "poses.json").read_text())
    assert [entry["id"] for entry in content["queries"]] == ["a/1", "z/1"]
    assert content["queries"][0] == {
        "id": "a/1", "status": "ok", "camera_to_world": poses(1)[0], "steps": 3, "x": [1, 2],
    }  # fmt: skip
    assert content["queries"][1]["loss"] is None
    assert store.records == content["queries"]


def test_a_pose_asked_for_and_missing_is_named(tmp_path):
    store = PoseStore(tmp_path / "poses.json", "Can")
    with pytest.raises(UserError, match="has no pose of the query burr/9"):
        store["burr/9"]


def test_queries_gone_from_the_scene_are_dropped(tmp_path):
    store = PoseStore(tmp_path / "poses.json", "Can")
    store.add("a/1", record())
    store.add("b/1", record(1))
    store.keep_only(["b/1", "c/1"])
    assert [r["id"] for r in PoseStore(tmp_path / "poses.json", "Can").records] == ["b/1"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not valid JSON"),
        ("[]", '"queries"'),
        ('{"queries": [3]}', '"id"'),
        ('{"queries": [{"id": "a/1"}]}', "status of a/1"),
        ('{"queries": [{"id": "a/1", "status": "ok"}]}', "camera_to_world of a/1"),
        (
            '{"queries": [{"id": "a/1", "status": "ok", "camera_to_world": [[2]]}]}',
            "camera_to_world of a/1",
        ),
        (
            '{"queries": [{"id": "a/1", "status": "not_found"},'
            ' {"id": "a/1", "status": "not_found"}]}',
            "a/1 twice",
        ),
    ],
)
def test_damaged_poses_json_is_named(tmp_path, content, part):
    (tmp_path / "poses.json").write_text(content)
    with pytest.raises(UserError, match="poses.json") as caught:
        PoseStore(tmp_path / "poses.json", "Can")
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_record_is_not_written(tmp_path):
    store = PoseStore(tmp_path / "poses.json", "Can")
    with pytest.raises(UserError, match="status"):
        store.add("a/1", {"status": "perhaps"})
    assert not (tmp_path / "poses.json").exists() and len(store) == 0


def test_stage_is_done_only_after_finish(tmp_path):
    stage = Stage("colour", tmp_path, {"iterations": 10})
    assert not stage.is_done() and stage.results == {}
    stage.begin()
    (tmp_path / "half.bin").write_text("x")
    assert not stage.is_done()
    stage.begin()  # the same settings: what a stopped run left is kept
    assert (tmp_path / "half.bin").exists()
    stage.finish(psnr=30.5)
    assert stage.is_done() and stage.results == {"psnr": 30.5}


def test_changed_settings_redo_a_stage_and_say_so(tmp_path, capsys):
    Stage("colour", tmp_path, {"iterations": 10, "size": (1, 2)}).finish()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.bin").write_text("x")
    (tmp_path / "old.txt").write_text("x")
    assert Stage("colour", tmp_path, {"iterations": 10, "size": (1, 2)}).is_done()
    changed = Stage("colour", tmp_path, {"iterations": 20, "size": (1, 2)})
    assert not changed.is_done()
    assert "iterations changed from 10 to 20; doing it again" in capsys.readouterr().out
    changed.begin()
    assert [path.name for path in tmp_path.iterdir()] == ["stage.json"]


def test_folder_without_a_marker_keeps_its_files(tmp_path):
    (tmp_path / "mine.ply").write_text("x")
    Stage("colour", tmp_path, {"iterations": 20}).begin()
    assert (tmp_path / "mine.ply").exists()


def test_stage_with_a_missing_product_is_done_again(tmp_path, capsys):
    stage = Stage("colour", tmp_path, {}, (tmp_path / "model.bin",))
    stage.finish()
    assert not stage.is_done() and "model.bin is gone" in capsys.readouterr().out
    (tmp_path / "model.bin").write_text("x")
    assert stage.is_done()


@pytest.mark.parametrize("content", ["{", "[]", '{"done": true}', ""])
def test_damaged_marker_means_not_done(tmp_path, content):
    (tmp_path / "stage.json").write_text(content)
    assert not Stage("colour", tmp_path, {}).is_done()


HOLDER = """
import sys, time
from piad.config import PoseConfig
from piad.run_folder import RunFolder
run = RunFolder.open(PoseConfig.from_command_line(["--class_name", "Can"]))
run.poses.add("burr/000", {"status": "not_found"})
print("locked", flush=True)
time.sleep(120)
"""


def test_two_runs_on_one_class_are_kept_apart_and_a_killed_one_leaves_no_lock(settings, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline().strip() == "locked"
        with pytest.raises(UserError, match=f"being worked on by process {holder.pid}"):
            RunFolder.open(settings)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with RunFolder.open(settings) as run:  # the killed run's work is still there
        assert run.poses.done("burr/000")


def test_damaged_poses_do_not_leave_the_class_locked(settings):
    run = RunFolder.open(settings)
    run.close()
    (run.root / "poses.json").write_text("{")
    for _ in range(2):
        with pytest.raises(UserError, match="not valid JSON"):
            RunFolder.open(settings)
