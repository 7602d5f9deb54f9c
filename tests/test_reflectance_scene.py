"""Finding reflectance weights, and converting a scene: mirrored files, marker, resume."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import piad.reflectance as reflectance
from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_image
from piad.reflectance import ORIGINAL, ReflectanceConfig, ReflectanceNet, to_reflectance
from piad.reflectance_net import DecompositionNet, IlluminationNet
from piad.scenes import Query, Scene, View
from piad.train_reflectance import save_net


def make_scene(root):
    """Five gallery views of 40x32 and two queries of 40x32 and 24x32 px."""
    generator = torch.Generator().manual_seed(0)
    scene = Scene("Thing", "MIP", [], [], None, root)
    for index in range(5):
        path = root / "train" / f"{index:03}.png"
        write_image(path, torch.rand(3, 32, 40, generator=generator))
        camera = Camera(Intrinsics.from_fov_x(0.7, 40, 32), torch.eye(4))
        scene.gallery.append(View(f"train/{index:03}", path, camera))
    for kind, width, label in (("good", 40, 0), ("stain", 24, 1)):
        path = root / "test" / kind / "000.jpg"
        write_image(path, torch.rand(3, 32, width, generator=generator))
        intrinsics = Intrinsics.from_fov_x(0.7, width, 32)
        scene.queries.append(Query(f"{kind}/000", kind, "000", path, label, None, intrinsics))
    return scene


def seeded_original(path, seed=0):
    """A file as init_low.pth is, with seeded weights."""
    torch.manual_seed(seed)
    net = DecompositionNet()
    torch.save({"state_dict": {"model_R": net.state_dict()}, "epoch": 20}, path)
    return net


@pytest.fixture
def empty_places(tmp_path, monkeypatch):
    """Weights are looked for in an empty folder."""
    monkeypatch.setattr(reflectance, "ORIGINAL_WEIGHTS", tmp_path / "init_low.pth")
    monkeypatch.setattr(reflectance, "SHIPPED_WEIGHTS", tmp_path / "ours.safetensors")
    return tmp_path


def test_shipped_weights_load_and_are_below_a_megabyte():
    net = ReflectanceNet.load(ReflectanceConfig(reflectance_net="ours"))
    assert net.name == "ours (reflectance.safetensors)"
    assert isinstance(net.module, IlluminationNet)
    assert reflectance.SHIPPED_WEIGHTS.stat().st_size < 1_000_000
    assert net(torch.rand(1, 3, 33, 50)).shape == (1, 3, 33, 50)


def test_original_checkpoint_is_preferred_where_the_user_has_put_it(empty_places):
    save_net(empty_places / "ours.safetensors", IlluminationNet(), {})
    cfg = ReflectanceConfig()
    assert ReflectanceNet.load(cfg).name.startswith("ours")
    seeded = seeded_original(empty_places / "init_low.pth")
    net = ReflectanceNet.load(cfg)
    assert net.name == "original (init_low.pth)"
    images = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(net(images), seeded(images))


def test_original_preset_overwrites_the_border(tmp_path):
    path = tmp_path / "init_low.pth"
    seeded_original(path)
    cfg = ReflectanceConfig(**ORIGINAL, reflectance_weights=str(path))
    image = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(1))
    made = ReflectanceNet.load(cfg)(image)
    assert torch.equal(made[..., 6:-6, :6], made[..., 6:-6, 6:7].expand(-1, -1, -1, 6))
    other = ReflectanceNet.load(ReflectanceConfig(reflectance_weights=str(path)))
    assert other.fingerprint != ReflectanceNet.load(cfg).fingerprint


def test_formula_and_photograph_need_no_weights(empty_places):
    image = torch.rand(1, 3, 32, 32)
    formula = ReflectanceNet.load(ReflectanceConfig(reflectance_net="retinex"))
    assert formula.name == "retinex formula" and not torch.equal(formula(image), image)
    photograph = ReflectanceNet.load(ReflectanceConfig(reflectance_net="none"))
    assert torch.equal(photograph(image), image)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"reflectance_net": "our"}, "reflectance_net must be one of auto, ours,"),
        ({"reflectance_padding": "zero"}, "reflectance_padding must be one of replicate, original"),
        ({"reflectance_batch": 0}, "reflectance_batch must be at least 1, not 0"),
        ({"reflectance_net": "original"}, "no reflectance weights at"),
        ({"reflectance_weights": "nowhere.pth"}, "no reflectance weights at nowhere.pth"),
    ],
)
def test_wrong_settings_are_named(empty_places, options, text):
    with pytest.raises(UserError, match=text):
        ReflectanceNet.load(ReflectanceConfig(**options))


def test_weights_of_the_wrong_kind_or_damaged_are_refused(tmp_path):
    def load(path, kind="auto"):
        ReflectanceNet.load(ReflectanceConfig(kind, str(path)))

    checkpoint, ours = tmp_path / "init_low.pth", tmp_path / "net.safetensors"
    torch.save({"state_dict": {"model_D": {}}}, checkpoint)
    with pytest.raises(UserError, match="must hold state_dict/model_R .*init_low.pth does not"):
        load(checkpoint)
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="must hold state_dict/model_R"):
        load(checkpoint)
    seeded_original(checkpoint)
    with pytest.raises(UserError, match="needs a .safetensors file"):
        load(checkpoint, "ours")
    ours.write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="must be written by train_reflectance"):
        load(ours)
    save_file({"x": torch.zeros(1)}, ours)
    with pytest.raises(UserError, match="does not fit: 'architecture'"):
        load(ours)
    with pytest.raises(UserError, match="needs an init_low.pth"):
        load(ours, "original")


def test_images_of_another_rank_are_refused():
    net = ReflectanceNet.load(ReflectanceConfig(reflectance_net="none"))
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\], not \(3, 8, 8\)"):
        net(torch.zeros(3, 8, 8))


def formula_net(batch=2):
    cfg = ReflectanceConfig(reflectance_net="retinex", reflectance_batch=batch)
    return ReflectanceNet.load(cfg)


def is_done(folder):
    return json.loads((folder / "stage.json").read_text())["done"]


def test_scene_is_mirrored_with_ids_cameras_and_labels_kept(tmp_path):
    scene, folder = make_scene(tmp_path / "data"), tmp_path / "reflection" / "MIP" / "Thing"
    net = formula_net()
    made = to_reflectance(scene, net, folder)
    assert [view.id for view in made.gallery] == [view.id for view in scene.gallery]
    assert all(a.camera is b.camera for a, b in zip(made.gallery, scene.gallery, strict=True))
    assert [query.label for query in made.queries] == [0, 1]
    assert made.gallery[3].path == folder / "train" / "003.png"
    assert made.queries[1].path == folder / "test" / "stain" / "000.png"
    for before, after in zip(
        scene.gallery + scene.queries, made.gallery + made.queries, strict=True
    ):
        expected = net(before.image()[None])[0]
        assert (after.image() - expected).abs().max() <= 0.5 / 255 + 1e-5
    assert is_done(folder)


class CountingNet(ReflectanceNet):
    """Counts images, and stops after some as a killed run would."""

    def __init__(self, net, stop_after=None):
        super().__init__(net.module, net.name, net.fingerprint, net.batch)
        self.count, self.stop_after = 0, stop_after

    def __call__(self, images):
        if self.stop_after is not None and self.count >= self.stop_after:
            raise KeyboardInterrupt
        self.count += len(images)
        return super().__call__(images)


def test_a_stopped_run_goes_on_and_a_finished_one_does_nothing(tmp_path):
    scene, folder = make_scene(tmp_path / "data"), tmp_path / "reflection"
    with pytest.raises(KeyboardInterrupt):
        to_reflectance(scene, CountingNet(formula_net(), stop_after=4), folder)
    assert not is_done(folder)
    rest = CountingNet(formula_net())
    to_reflectance(scene, rest, folder)
    assert rest.count == 3
    again = CountingNet(formula_net())
    to_reflectance(scene, again, folder)
    assert again.count == 0


def test_a_changed_photograph_is_done_again_and_another_net_does_all(tmp_path):
    scene, folder = make_scene(tmp_path / "data"), tmp_path / "reflection"
    to_reflectance(scene, formula_net(), folder)
    write_image(scene.gallery[2].path, torch.full((3, 32, 40), 0.4))
    counting = CountingNet(formula_net())
    to_reflectance(scene, counting, folder)
    assert counting.count == 1
    other = CountingNet(ReflectanceNet.load(ReflectanceConfig(reflectance_net="none")))
    made = to_reflectance(scene, other, folder)
    assert other.count == 7
    assert torch.equal(made.gallery[0].image(), scene.gallery[0].image())


def test_damaged_digests_count_as_none(tmp_path):
    scene, folder = make_scene(tmp_path / "data"), tmp_path / "reflection"
    to_reflectance(scene, formula_net(), folder)
    (folder / reflectance.INPUTS).write_text("[1, 2")
    counting = CountingNet(formula_net())
    to_reflectance(scene, counting, folder)
    assert counting.count == 7


def test_a_photograph_from_elsewhere_is_kept_under_its_id(tmp_path):
    scene = make_scene(tmp_path / "data")
    stray = tmp_path / "photo.jpg"
    write_image(stray, torch.rand(3, 32, 40))
    scene.queries[0] = replace(scene.queries[0], path=stray)
    made = to_reflectance(scene, formula_net(), tmp_path / "reflection")
    assert made.queries[0].path == tmp_path / "reflection" / "good" / "000.png"


def test_a_missing_photograph_is_named_before_anything_is_written(tmp_path):
    scene, folder = make_scene(tmp_path / "data"), tmp_path / "reflection"
    scene.queries[1].path.unlink()
    with pytest.raises(UserError, match="cannot read .*stain/000.jpg"):
        to_reflectance(scene, formula_net(), folder)
    assert not folder.exists()


def test_progress_sees_every_batch(tmp_path):
    scene, seen = make_scene(tmp_path / "data"), []

    def progress(items):
        for item in items:
            seen.append(len(item))
            yield item

    to_reflectance(scene, formula_net(batch=4), tmp_path / "reflection", progress=progress)
    assert seen == [4, 2, 1]
