"""Evaluation of comparisons and the files of a report."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from piad.comparison import Comparison
from piad.evaluation import evaluate, query_lights, verdict
from piad.figures import contact_sheet, contours, heat_overlay, roc_plot
from piad.judge import write_pictures
from piad.report import caption, shortened, table, write_csv, write_report
from piad.threshold import Threshold
from tests.detection_scene import SIDE, write_query

HEADER = {"class_name": "Disc", "preset": "default", "weights": {"features": "seeded"}}
SQUARE = np.zeros((SIDE, SIDE), dtype=bool)
SQUARE[20:26, 20:26] = True
REQUIRED = (
    "class_name preset weights num_queries image_auroc image_ap image_f1 pixel_auroc pixel_ap "
    "pixel_f1 aupro_30 aupro_05 threshold by_type queries"
).split()


def comparison(folder, name, score, light=None, size=SIDE):
    """A query whose map is `score` on the square and `score` / 10 elsewhere."""
    mask = None if name.startswith("good") else SQUARE
    query = write_query(folder, name, torch.full((3, SIDE, size), 0.4), mask)
    if score is None:
        return Comparison(query, "not_found", None, None, light)
    path = folder / "maps" / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = np.where(SQUARE, score, score / 10).astype(np.float32)
    np.savez(path, map=scores, rendering=np.full((SIDE, SIDE, 3), 90, dtype=np.uint8))
    return Comparison(query, "ok", score, path, light)


@pytest.fixture
def four(tmp_path):
    return [
        comparison(tmp_path, "good_B/000", 0.2, "B"),
        comparison(tmp_path, "good_C/000", 0.3, "C"),
        comparison(tmp_path, "stain/000", 0.9, "B"),
        comparison(tmp_path, "burr/000", 0.25, "C"),
    ]


def test_results_json_has_every_promised_field(four, tmp_path):
    write_report(tmp_path / "out", evaluate(four), four, HEADER)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(REQUIRED) <= set(results)
    assert results["num_queries"] == 4 and results["num_not_found"] == 0
    # Pairs won: stain 2, burr 1 of 4.
    assert results["image_auroc"] == pytest.approx(0.75)
    assert [q["id"] for q in results["queries"]] == [c.query.id for c in four]
    assert {"id", "label", "score", "status"} <= set(results["queries"][0])
    assert results["threshold_source"] == "best F1 on the labels"
    assert set(results["by_type"]) == {"good_B", "good_C", "stain", "burr"}


def test_types_are_ranked_against_all_flawless_queries(four):
    by_type = evaluate(four).summary["by_type"]
    assert by_type["stain"]["image_auroc"] == 1.0
    assert by_type["burr"]["image_auroc"] == 0.5
    # Square of burr at 0.25 against normal pixels at most 0.3 (36 of 3 * 48 * 48 - 36 are above).
    assert by_type["burr"]["pixel_auroc"] == pytest.approx(1 - 36 / (3 * SIDE**2 - 36), abs=1e-6)
    assert by_type["good_B"]["image_auroc"] is None and by_type["good_B"]["pixel_ap"] is None


def test_lights_are_ranked_within_themselves(four):
    by_light = evaluate(four).summary["by_light"]
    assert by_light["B"]["image_auroc"] == 1.0
    assert by_light["C"]["image_auroc"] == 0.0


def test_verdicts_and_flagged_shares_follow_the_threshold(four):
    summary = evaluate(four).summary
    # Best F1: both defects found with one false alarm, 0.8; the stain alone gives 2/3.
    assert 0.2 < summary["threshold"] <= 0.25
    assert [q["verdict"] for q in summary["queries"]] == ["good", "defect", "defect", "defect"]
    assert summary["by_type"]["good_C"]["flagged"] == 1.0
    assert summary["by_type"]["good_B"]["flagged"] == 0.0


def test_the_label_free_threshold_counts_false_alarms_and_finds(four, tmp_path):
    threshold = Threshold(0.27, 0.05, 24)
    lost = [comparison(tmp_path, name, None, "B") for name in ("good_B/001", "stain/001")]
    summary = evaluate([*four, *lost], label_free=threshold).summary
    found = summary["label_free"]
    # By hand: good_C at 0.3 and the lost good_B are false alarms; of the defects burr (0.25) and
    # the lost stain are missed.
    counts = ("num_false_alarms", "num_flawless", "num_detected", "num_defective")
    assert [found[key] for key in counts] == [2, 3, 1, 3]
    assert found["false_alarm_rate"] == pytest.approx(2 / 3)
    assert [found["by_light"]["C"][key] for key in counts] == [1, 1, 0, 1]
    assert [found["by_type"]["stain"][key] for key in counts] == [0, 0, 1, 2]
    assert found["by_type"]["stain"]["false_alarm_rate"] is None
    verdicts = ["good", "defect", "defect", "good", "not found", "not found"]
    assert [q["label_free_verdict"] for q in summary["queries"]] == verdicts
    text = table({**HEADER, **summary})
    assert "threshold 0.27 without labels (5 % false alarms allowed on 24 gallery" in text
    rows = {line[:18].strip(): line[18:].split() for line in text.splitlines()}
    assert rows["light C"][:4] == ["1", "of", "1", "100.0%"]
    assert rows["burr"] == ["-", "0", "of", "1", "0.0%"]
    write_csv(tmp_path / "results.csv", summary)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["label_free_verdict"] for row in rows] == verdicts


def test_without_a_label_free_threshold_nothing_is_said_of_it(four):
    summary = evaluate(four).summary
    assert summary["label_free"] is None and summary["queries"][0]["label_free_verdict"] is None
    assert "without labels" not in table({**HEADER, **summary})


def test_a_query_without_a_pose_never_helps(four, tmp_path):
    def summary_with(name):
        return evaluate([*four, comparison(tmp_path, name, None)]).summary

    before = evaluate(four).summary
    for name in ("good_B/001", "stain/001"):
        after = summary_with(name)
        assert after["num_not_found"] == 1
        assert after["image_auroc"] < before["image_auroc"]
        assert after["queries"][-1]["score"] is None
        assert after["queries"][-1]["verdict"] == "not found"
    # Half of the lost defect's class is gone: its pixels tie with all others at zero.
    assert summary_with("stain/001")["aupro_30"] < before["aupro_30"]


def test_one_class_alone_is_null_in_json_and_a_dash_in_the_table(four, tmp_path):
    evaluation = evaluate(four[:2])
    write_report(tmp_path / "out", evaluation, four[:2], HEADER)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["image_auroc"] is None and results["threshold"] is None
    assert results["queries"][0]["verdict"] is None
    row = table(results).splitlines()[2].split()
    assert row == ["Disc", "2", *["-"] * 8]


def test_a_class_without_masks_gets_image_metrics_alone(four, tmp_path):
    evaluation = evaluate(four, has_masks=False)
    assert evaluation.summary["image_auroc"] == pytest.approx(0.75)
    assert evaluation.summary["pixel_auroc"] is None and evaluation.pixel_roc is None
    write_report(tmp_path / "out", evaluation, four, HEADER, has_masks=False)
    assert (tmp_path / "out" / "figures" / "stain" / "000.png").is_file()


def test_every_file_is_written_and_results_json_last(four, tmp_path):
    folder = tmp_path / "out"
    write_report(folder, evaluate(four), four, HEADER)
    written = {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*.*")}
    figures = {f"figures/{c.query.id}.png" for c in four}
    names = {"results.json", "results.csv", "results.tex", "contact_sheet.png"}
    assert set(written) == figures | names | {"roc_image.png", "roc_pixel.png"}
    assert max(written.values()) == written["results.json"]


def test_a_report_that_fails_leaves_no_results_json(four, tmp_path):
    folder = tmp_path / "out"
    write_report(folder, evaluate(four), four, HEADER)
    evaluation = evaluate(four)
    four[0].file.unlink()
    with pytest.raises(FileNotFoundError):
        write_report(folder, evaluation, four, HEADER)
    assert not (folder / "results.json").exists()


def test_csv_and_latex_hold_the_same_numbers(four, tmp_path):
    write_report(tmp_path, evaluate(four), four, HEADER)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [(r["id"], float(r["score"])) for r in rows] == [(c.query.id, c.score) for c in four]
    latex = (tmp_path / "results.tex").read_text().splitlines()
    assert latex[1].startswith("Disc & 75.0 & ") and latex[1].endswith(r" \\")
    assert any(line.startswith(r"good\_B & - & ") for line in latex)


def test_the_table_names_groups_threshold_and_missing_poses(four, tmp_path):
    lost = comparison(tmp_path, "burr/001", None)
    text = table({**HEADER, **evaluate([*four, lost]).summary})
    assert "light B" in text and "best F1 on the labels" in text
    assert "1 without a pose" in text


def test_the_six_panels_show_what_they_should(four, tmp_path):
    write_report(tmp_path / "out", evaluate(four), four, HEADER)
    figure = np.asarray(Image.open(tmp_path / "out" / "figures" / "stain" / "000.png"))
    top, panel = 26, 320

    def at(column, row, x, y):  # relative position in a panel
        left = 10 + column * (panel + 10)
        return figure[top + row * (panel + 26) + int(y * panel), left + int(x * panel)].tolist()

    inside, outside = (0.48, 0.48), (0.1, 0.1)
    assert at(0, 0, *outside) == [102] * 3 and at(1, 0, *outside) == [90] * 3
    assert at(2, 0, *inside) == [255] * 3 and at(2, 0, *outside) == [0] * 3
    assert at(1, 1, *inside) == [255] * 3 and at(1, 1, *outside) == [0] * 3
    red, _, blue = at(0, 1, *inside)
    assert red > blue + 50
    red_inside = figure[top + panel + 26 :, 10 + 2 * 330 : 10 + 3 * 330].reshape(-1, 3)
    assert (np.abs(red_inside.astype(int) - [230, 30, 40]).max(1) < 10).any()


def test_a_photograph_alone_has_four_panels_and_no_truth(four, tmp_path):
    alone = replace(four[2], query=replace(four[2].query, label=None))
    write_pictures(tmp_path / "out", alone, 0.5, 1.0)
    figure = np.asarray(Image.open(tmp_path / "out" / "figure.png"))
    assert figure.shape == (2 * (320 + 26) + 30, 10 + 2 * 330 + 26, 3)
    assert figure[26 + 32, 10 + 32].tolist() == [102] * 3  # photograph
    assert figure[26 + 32, 340 + 32].tolist() == [90] * 3  # rendering
    red = figure[2 * 26 + 320 :, 340:660].reshape(-1, 3).astype(int)
    assert (np.abs(red - [230, 30, 40]).max(1) < 10).any()
    assert Image.open(tmp_path / "out" / "heat.png").size == (SIDE, SIDE)
    text = caption(alone, 0.5)
    assert text.startswith("000.png") and "flawless" not in text and "defective" not in text
    assert verdict(alone, 0.5) == "defect" and verdict(alone, 2.0) == "ok"
    assert len(shortened("x" * 80 + "_0123.jpg")) == 36 and shortened("a.jpg") == "a.jpg"
    assert shortened("x" * 80 + "_0123.jpg").endswith("_0123.jpg")


def test_contours_show_truth_and_find_in_their_colours():
    photo = np.full((40, 60, 3), 128, dtype=np.uint8)
    found, truth = np.zeros((2, 40, 60), dtype=bool)
    found[5:15, 5:15], truth[25:35, 40:50] = True, True
    drawn = contours(photo, found, truth, (60, 40)).astype(int)
    assert np.abs(drawn[5, 10] - [230, 30, 40]).max() < 10
    assert np.abs(drawn[25, 45] - [20, 170, 60]).max() < 10
    assert (drawn[20, 30] == 128).all()
    assert contours(photo, found, None, (30, 20)).shape == (20, 30, 3)


def test_heat_is_grey_where_nothing_is_found():
    photo = np.full((2, 2, 3), (200, 100, 50), dtype=np.uint8)
    scores = np.array([[0.0, 1.0], [0.0, 9.0]], dtype=np.float32)
    heat = heat_overlay(photo, scores, top=1.0).astype(int)
    assert np.ptp(heat[0, 0]) == 0
    assert (heat[0, 1] == heat[1, 1]).all() and heat[0, 1, 0] > heat[0, 1, 2]


def test_the_sheet_has_the_highest_score_first(four, tmp_path):
    write_report(tmp_path / "out", evaluate(four), four, HEADER)
    sheet = np.asarray(Image.open(tmp_path / "out" / "contact_sheet.png"))
    # Frames from left to right: stain (red), good_C, burr, good_B.
    colours = [sheet[41, 10 + k * 318 + 1].tolist() for k in range(4)]
    red, green = [230, 30, 40], [20, 170, 60]
    assert colours == [red, green, red, green]


def test_an_empty_sheet_is_not_written_and_an_undefined_roc_says_so(tmp_path):
    contact_sheet(tmp_path / "sheet.png", "none", [])
    assert not (tmp_path / "sheet.png").exists()
    roc_plot(tmp_path / "roc.png", "none", None, None)
    assert (tmp_path / "roc.png").stat().st_size > 0


def test_captions_say_truth_score_and_verdict(four, tmp_path):
    text = caption(four[2], 0.5)
    assert all(part in text for part in ("stain/000", "defective", "0.9", "verdict: defect"))
    assert "not found" in caption(comparison(tmp_path, "good/009", None), 0.5)
    assert verdict(four[0], None) is None


def scene_of(root, types):
    queries = [SimpleNamespace(id=f"{t}/000", type=t) for t in types]
    return SimpleNamespace(queries=queries, root=root)


def test_lights_come_from_the_endings_flawless_types_have(tmp_path):
    lights = query_lights(scene_of(tmp_path, ["good_B", "good_C", "burr_B", "bent_rim", "hole"]))
    assert lights == {"good_B/000": "B", "good_C/000": "C", "burr_B/000": "B"}


@pytest.mark.parametrize(
    "name, key, path",
    [
        ("transforms_test.json", "frames", "./test/hole/000"),
        ("poses_true.json", "test", "test/hole/000.jpg"),
    ],
)
def test_lights_come_from_the_file_of_true_poses(tmp_path, name, key, path):
    frames = [{"file_path": path, "light": "D"}, {"file_path": "test/other/001"}]
    (tmp_path / name).write_text(json.dumps({key: frames}))
    assert query_lights(scene_of(tmp_path, ["good", "hole"])) == {"hole/000": "D"}


def test_an_unreadable_file_of_true_poses_only_leaves_lights_unknown(tmp_path):
    (tmp_path / "transforms_test.json").write_text("{")
    assert query_lights(scene_of(tmp_path, ["good", "hole"])) == {}
