"""Files appear whole or not at all."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gaussian_renderer.files import atomic_path, write_image, write_json


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert path.stat().st_mode & 0o600 == 0o600


def test_json_keeps_full_precision_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": 0.1 + 0.2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 0.1 + 0.2}
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})


def test_images_of_all_kinds_come_back_from_png(tmp_path):
    colours = torch.tensor([0.0, 0.5, 1.7])[:, None, None].expand(3, 4, 5)
    write_image(tmp_path / "c.png", colours)
    assert np.asarray(Image.open(tmp_path / "c.png"))[3, 4].tolist() == [0, 128, 255]
    write_image(tmp_path / "g.png", torch.full((1, 4, 5), 0.2))
    assert np.asarray(Image.open(tmp_path / "g.png")).tolist() == [[51] * 5] * 4
    array = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    write_image(tmp_path / "a.png", array)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == array).all()
    write_image(tmp_path / "a.jpg", array)
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"
    with pytest.raises(TypeError, match="uint8"):
        write_image(tmp_path / "f.png", np.zeros((4, 5)))
