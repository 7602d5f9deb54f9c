"""Settings: where a value comes from, and what is said of a wrong one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gaussian_renderer.errors import UserError
from piad import config
from piad.config import PARTS, Config, Part, PoseConfig, RunConfig, TestConfig, all_keys, presets
from piad.config_file import read_config_file
from piad.refine_config import RefineConfig


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def error_of(*argv: str, kind=PoseConfig) -> str:
    with pytest.raises(UserError) as caught:
        kind.from_command_line(list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_later_sources_win(tmp_path):
    write(tmp_path / "_base.txt", "resolution = 111", "seed = 1", "device = cpu")
    path = write(tmp_path / "Can.txt", "resolution = 222", "seed = 2")
    cfg = PoseConfig.from_command_line(["--config", str(path), "--seed", "3"])
    assert (cfg.device, cfg.data.resolution, cfg.seed) == ("cpu", 222, 3)
    assert cfg.data.image_cache_mb == config.DataConfig().image_cache_mb


def test_preset_of_the_command_line_goes_over_files_and_under_options(tmp_path, monkeypatch):
    choice = {"original": {"resolution": 99, "seed": 9}, "default": {}}
    monkeypatch.setattr(config, "presets", lambda: choice)
    path = write(tmp_path / "Can.txt", "resolution = 222", "seed = 2")
    cfg = PoseConfig.from_command_line(
        ["--config", str(path), "--preset", "original", "--seed", "3"]
    )
    assert (cfg.preset, cfg.data.resolution, cfg.seed) == ("original", 99, 3)


def test_preset_in_a_file_goes_under_that_file_s_keys(tmp_path, monkeypatch):
    choice = {"original": {"resolution": 99, "seed": 9}, "default": {}}
    monkeypatch.setattr(config, "presets", lambda: choice)
    path = write(tmp_path / "Can.txt", "resolution = 222", "preset = original")
    cfg = Config.from_file(path)
    assert (cfg.data.resolution, cfg.seed) == (222, 9)


def test_base_names_the_file_below_a_config(tmp_path):
    write(tmp_path / "_base.txt", "seed = 1", "device = cpu")
    write(tmp_path / "_cpu.txt", "seed = 4")
    path = write(tmp_path / "Can.txt", "class_name = Can", "base = _cpu.txt")
    cfg = Config.from_file(path)
    assert (cfg.seed, cfg.device, cfg.class_name) == (4, "cpu", "Can")
    path.write_text("base = none.txt\n")
    assert "Can.txt, line 1: no file" in error_of("--config", str(path))
    path.write_text("base = Can.txt\n")
    assert "circle" in error_of("--config", str(path))


@pytest.mark.parametrize("word", ["False", "false", "no", "0", "off"])
def test_white_background_false_means_false(tmp_path, word):
    path = write(tmp_path / "Can.txt", f"white_background = {word}")
    assert Config.from_file(path).data.white_background is False


@pytest.mark.parametrize(
    "line", ["white_background = True", "white_background", "white_background=1"]
)
def test_white_background_true_means_true(tmp_path, line):
    assert Config.from_file(write(tmp_path / "Can.txt", line)).data.white_background is True


def test_flags_work_with_and_without_a_value():
    assert PoseConfig.from_command_line(["--white_background"]).data.white_background is True
    cfg = PoseConfig.from_command_line(["--white_background", "False", "--seed", "3e1"])
    assert cfg.data.white_background is False and cfg.seed == 30


def test_the_original_s_names_are_understood(tmp_path):
    lines = [
        "model_name = Can",
        "output_dir = ./output/",
        "dataset_type = MIP",
        "data_dir = ./data/MIP",
        "reflection_dir = ./reflection/",
        "ckpt_dir = ./ckpts/",
        "ckpt_name = Can",
        "white_background = False",
        "lrate = 0.05",
    ]
    cfg = Config.from_file(write(tmp_path / "Can.txt", *lines))
    assert cfg.class_name == "Can" and cfg.ckpt_name == "Can" and cfg.data.dataset_type == "MIP"
    assert cfg.refine.lrate == 0.05 and cfg.output_dir == "./output/"
    cfg = PoseConfig.from_command_line(["--iterations", "30", "--iter_num", "4"])
    assert (cfg.fit.iterations, cfg.refine.iter_num) == (30, 4)
    assert TestConfig.from_command_line(["--obj", "Can"]).class_name == "Can"
    assert PoseConfig.from_command_line(["--class_name", "Can"]).class_name == "Can"


def test_unknown_key_names_file_line_and_nearest(tmp_path):
    path = write(tmp_path / "Can.txt", "class_name = Can", "", "resolutoin = 3")
    text = error_of("--config", str(path))
    assert f"{path}, line 3" in text and "resolutoin" in text and "did you mean resolution?" in text


def test_unknown_option_names_the_nearest():
    assert "did you mean --resolution?" in error_of("--resolutoin", "3")
    assert "unknown option --zzzzzz" in error_of("--zzzzzz")
    assert "expected one argument" in error_of("--seed")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("seed = many", ["seed must be a whole number", "'many'"]),
        ("seed = 1.5", ["seed must be a whole number", "'1.5'"]),
        ("query_focal_px = long", ["query_focal_px must be a number", "'long'"]),
        ("white_background = maybe", ["white_background must be True or False", "'maybe'"]),
        ("dataset_type = MVTec", ["dataset_type must be one of auto, MAD, MIP, COLMAP", "MVTec"]),
        ("preset = fast", ["preset must be one of default, original", "'fast'"]),
    ],
)
def test_wrong_values_name_key_value_and_place(tmp_path, line, parts):
    path = write(tmp_path / "Can.txt", "class_name = Can", line)
    text = error_of("--config", str(path))
    assert all(part in text for part in [*parts, f"{path}, line 2"]), text
    key, value = line.split(" = ")
    assert f"--{key}: {parts[0]}" in error_of(f"--{key}", value)


def test_choices_are_understood_in_any_case():
    for word in ("mip", "MIP", "Mip"):
        cfg = PoseConfig.from_command_line(["--dataset_type", word])
        assert cfg.data.dataset_type == "MIP"
    assert PoseConfig.from_command_line(["--dataset_type", "Real"]).data.dataset_type == "COLMAP"


def test_faults_of_config_files_are_named(tmp_path):
    path = write(tmp_path / "Can.txt", "seed = 1", "seed = 2")
    assert f"{path}, line 2: seed is given twice" in error_of("--config", str(path))
    write(path, "class_name = Can", "model_name = Spring")
    assert "another name of class_name" in error_of("--config", str(path))
    write(path, "= 3")
    assert "line 1: a config line must read key = value" in error_of("--config", str(path))
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert "must be text" in error_of("--config", str(path))
    assert "there are: Can.txt" in error_of("--config", str(tmp_path / "Cann.txt"))
    assert "no folder" in error_of("--config", str(tmp_path / "none" / "Can.txt"))


def test_resolved_config_reads_back_to_the_same_settings(tmp_path):
    cfg = PoseConfig.from_command_line(
        ["--class_name", "Can", "--data_dir", 'data/my #1 "x"'.replace('"', ""), "--seed", "7"]
        + ["--query_focal_px", "0.1", "--white_background", "--ckpt_name", "a;b"]
    )
    path = tmp_path / "config.txt"
    path.write_text(cfg.to_text())
    assert Config.from_file(path).values() == cfg.values()
    assert read_config_file(path).keys() == cfg.values().keys()


def test_resolved_config_of_a_preset_keeps_what_the_command_line_changed(tmp_path, monkeypatch):
    choice = {"original": {"resolution": 99}, "default": {}}
    monkeypatch.setattr(config, "presets", lambda: choice)
    cfg = PoseConfig.from_command_line(["--preset", "original", "--resolution", "50"])
    path = tmp_path / "config.txt"
    path.write_text(cfg.to_text())
    again = Config.from_file(path)
    assert (again.preset, again.data.resolution) == ("original", 50)


def test_scoring_starts_from_the_settings_of_the_run(tmp_path):
    out = tmp_path / "output"
    write(out / "Can" / "config.txt", "class_name = Can", "resolution = 77", "seed = 5")
    path = write(tmp_path / "Can.txt", "resolution = 88", "seed = 6", "class_name = Can")
    argv = ["--obj", "Can", "--output_dir", str(out)]
    assert TestConfig.from_command_line(argv).data.resolution == 77
    cfg = TestConfig.from_command_line([*argv, "--config", str(path)])
    # what the products were made with stays; the rest follows --config
    assert (cfg.data.resolution, cfg.seed) == (77, 6)
    assert TestConfig.from_command_line([*argv, "--resolution", "66"]).data.resolution == 66


def test_help_groups_options_by_part_with_defaults(capsys):
    with pytest.raises(SystemExit) as caught:
        PoseConfig.from_command_line(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "\ndata:\n" in text and "\nrun:\n" in text and "--resolution INT" in text
    assert "[400]" in text and "--obj" in text


def test_help_of_a_script_leaves_out_the_other_s_parts(capsys):
    hidden = [part for part in PARTS if "test" not in part.scripts]
    with pytest.raises(SystemExit):
        TestConfig.from_command_line(["--help"])
    text = capsys.readouterr().out
    for part in hidden:
        assert f"\n{part.name}:\n" not in text
    assert "\ndata:\n" in text


def test_every_key_is_one_scalar_with_a_help_text_and_one_owner():
    for name, key in all_keys().items():
        assert key.kind in (bool, int, float, str), name
        assert len(key.field.metadata["help"]) > 10, name


def test_two_parts_with_one_key_are_refused(monkeypatch):
    @dataclass
    class Clash:
        seed: int = field(default=1, metadata={"help": "a second seed"})

    monkeypatch.setattr(config, "part_class", lambda part: Clash)
    monkeypatch.setattr(config, "PARTS", (Part("clash", "", "", ()),))
    with pytest.raises(TypeError, match="both use seed"):
        all_keys()
    monkeypatch.setattr(Clash, "__annotations__", {"seed": "list"})
    with pytest.raises(TypeError, match="must be a scalar"):
        all_keys()


def test_presets_name_keys_that_exist_and_fit():
    keys = all_keys()
    for name, value in presets()["original"].items():
        assert name in keys, name
        assert isinstance(value, (keys[name].kind, int)), name
    assert PoseConfig.from_command_line(["--preset", "original"]).preset == "original"


def test_settings_can_be_made_without_any_file():
    cfg = PoseConfig(class_name="Can")
    assert cfg.values().keys() == Config.from_command_line([]).values().keys()
    assert {f.name for f in dataclasses.fields(RunConfig)} <= cfg.values().keys()


def test_photographs_are_judged_with_the_settings_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "output/Can/config.txt", "resolution = 111", "detect_sigma = 2")
    path = write(tmp_path / "Can.txt", "class_name = Can", "resolution = 222", "detect_sigma = 3")
    argv = ["--config", str(path)]
    assert PoseConfig.from_command_line(argv).data.resolution == 222
    cfg = PoseConfig.from_command_line([*argv, "--query", "a.jpg", "b.jpg", "--query", "c.jpg"])
    assert cfg.query == (Path("a.jpg"), Path("b.jpg"), Path("c.jpg"))
    assert (cfg.data.resolution, cfg.detect.detect_sigma) == (111, 3)
    assert "jpg" not in cfg.to_text()
    asked = PoseConfig.from_command_line([*argv, "--resolution", "50", "--query", "a.jpg"])
    assert asked.data.resolution == 50
    assert "--query" in error_of("--class_name", "Can", "--query", kind=PoseConfig)


@pytest.mark.parametrize("key", ["iter_num", "refine_batch", "polish_steps", "refine_detail_views"])
def test_negative_counts_of_the_refinement_are_refused_by_name(key):
    with pytest.raises(UserError, match=f"{key} must be 0 or positive, got -1"):
        RefineConfig(**{key: -1})
