"""Query photographs of an object, and their records."""

import numpy as np
import pytest

from data.make import queries
from data.make.queries import Request, broken_view, broken_views, make_queries

IMAGE = np.zeros((4, 4, 3), np.uint8)


def requests(*types):
    return [Request(kind, number, "A", (number,)) for number, kind in enumerate(types)]


def test_what_no_view_shows_is_left_out_and_the_rest_is_kept(tmp_path):
    kept = []

    def store(records=None):
        kept[:] = kept if records is None else records
        return kept

    def broken(request):
        return None if request.type == "lost" else (IMAGE, np.ones((4, 4), bool), {"defect": {}})

    asked = requests("good_A", "lost", "dented")
    make_queries(tmp_path, ".png", asked, lambda request: (IMAGE, {}), broken, store)
    assert [record["file_path"] for record in kept] == ["test/good_A/000", "test/dented/002"]
    assert kept[1]["mask_fraction"] == 1
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [
        "000.png",
        "002.png",
        "002.png",
    ]
    assert not (tmp_path / "test/lost").exists()


def test_defects_are_offered_one_after_another_until_they_are_given_up(monkeypatch):
    drawn = iter(range(100))
    monkeypatch.setattr(queries, "random_defect", lambda name, kind, rng, likeness: next(drawn))
    monkeypatch.setattr(queries, "build_stage", lambda name, defect, likeness: defect)

    def shown(flawless, broken, *rest):
        return None if broken % 2 else ("pose", "mask")

    monkeypatch.setattr(queries, "view_of", shown)
    asked = requests("dented")[0], "Knob", None, min, (4, 4), 1, 0.1
    found = [defect for defect, *_ in broken_views(*asked)]
    assert found == list(range(0, queries.DEFECTS_PER_QUERY, 2))
    monkeypatch.setattr(queries, "view_of", lambda *given: None)
    with pytest.raises(RuntimeError, match="no view shows a dented"):
        broken_view(*asked)
