"""The change net: distances of features, what is normal there and both images, seen together.

Ours. A distance alone doesn't say whether a lamp or a defect made it; its surroundings do: whether
both branches and all layers see it, whether it follows an edge or a highlight, whether the backdrop
shows where the object should be, whether the surface may shine. The net is small and was trained on
random objects and hand-made ones that are in no data set (`piad.solid_objects`, `data.make`,
`piad.train_change`).
`piad.anomaly_map` adds its map to the distances'.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gaussian_renderer.area import area_average
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from piad.anomaly import TINY, Compared, DetectConfig, Features, energy, fraction
from piad.anomaly_map import NormalMaps
from piad.relight import resized
from piad.surface import NUM_SURFACE

SHIPPED_WEIGHTS = Path(__file__).resolve().parents[1] / "retrieval" / "model" / "change.safetensors"
# What a comparison must be like for the net to know its distances.
CHOICES = (
    "detect_distance",
    "detect_branches",
    "detect_layers",
    "detect_shift",
    "detect_zoom",
    "relight_window",
    "relight_features",
)
NUM_IMAGES = 13  # channels of `half_images`
# What a member sees beside distances and images: the surface, or how the features changed.
KINDS = ("surface", "changes")
# Of the members' logits in the net's: what sees changes errs less on objects unlike the training's.
SHARES = {"surface": 0.4, "changes": 0.6}
DROPPED = 0.2  # share of the changes' channels left out at each step of the training


def evidence(compared: Compared, normal: NormalMaps) -> Tensor:
    """Distances and what is normal, each in the unit of its mean over the object, as log(1 + x).

    Returns:
        [B, 2 K, H / 4, W / 4], rounded up.
    """
    size = compared.coarse_size
    scale = normal.scale.clamp_min(TINY)[..., None, None]
    usual = area_average(normal.expected, size)
    found = torch.cat([compared.stacked(size) / scale, usual / scale], 1)
    return found.clamp_min_(0).add_(1).log_()  # a tenth of log1p's time on CPUs


def half_images(compared: Compared) -> Tensor:
    """Relit renderings, what the photographs differ from them, coverage: [B, 13, H / 2, W / 2]."""
    size = fraction(compared.alpha.shape[-2:], 2)
    seen = compared.lit, compared.photo, compared.alpha
    lit, photo, alpha = (area_average(image, size) for image in seen)
    return torch.cat([lit, photo - lit, alpha], 1)


def feature_changes(compared: Compared) -> list[Tensor]:
    """Features of the photographs less their renderings', per layer [B, R C, h, w].

    In the unit of their energy (`piad.anomaly.energy`), as the distances are.
    """
    found = []
    for photo, flawless in compared.features:
        branches = photo.shape[:2]
        photo, flawless = photo.flatten(0, 1), flawless.flatten(0, 1)
        change = (photo - flawless).mul_(energy(photo, flawless).rsqrt_())
        found.append(change.unflatten(0, branches).flatten(1, 2))
    return found


class Block(nn.Sequential):
    """Convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, side: int = 3) -> None:
        convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Member(nn.Module):
    """A U-Net at strides 4, 8 and 16 of the enlarged image, with a fine branch at stride 2.

    Means and maxima over the whole image join in at stride 16: a harsh lamp raises what is seen
    everywhere. The surface joins in at stride 4, changes of features at their own strides.
    """

    def __init__(
        self, num_maps: int, width: int, fine: int, channels: Sequence[int], kind: str
    ) -> None:
        """
        Args:
            channels: of the changes of features, per layer; see `ChangeNet`.
            kind: of KINDS.
        """
        super().__init__()
        one, two, three = width, width + 16, width + 32
        self.sees_surface = kind == "surface"
        parts = (0, 0, 0) if self.sees_surface else (one // 2, one, one)
        self.drop = nn.Dropout2d(DROPPED)
        self.changes = nn.ModuleList(
            Block(count, part, side=1) for count, part in zip(channels, parts, strict=True) if part
        )
        self.fine = Block(NUM_IMAGES, fine)
        self.images = Block(fine, fine, 2)
        entering = num_maps + fine + (NUM_SURFACE if self.sees_surface else parts[0])
        self.enter = nn.Sequential(Block(entering, one), Block(one, one))
        self.down = Block(one, two, 2)
        self.second = Block(two + parts[1], two)
        self.deep = Block(two, three, 2)
        self.third = nn.Sequential(Block(three + parts[2], three), Block(three, three))
        self.context = nn.Linear(2 * three, three)
        self.middle = Block(two + three, two)
        self.leave = Block(one + two, one)
        self.join = Block(one + fine, fine)
        self.last = nn.Conv2d(fine, 1, 1)
        nn.init.constant_(self.last.bias, -3.0)  # defects are rare

    def forward(
        self, maps: Tensor, images: Tensor, surface: Tensor, changes: Sequence[Tensor]
    ) -> Tensor:
        """Logits of a change, [B, 1, H / 2, W / 2]; see `ChangeNet.forward`."""
        seen = zip(self.changes, changes, strict=False)  # none where it sees the surface
        own = [block(self.drop(change)) for block, change in seen]

        def joined(x: Tensor, layer: int) -> Tensor:
            return torch.cat([x, resized(own[layer], x.shape[-2:])], 1) if own else x

        fine = self.fine(images)
        first = torch.cat([maps, resized(self.images(fine), maps.shape[-2:])], 1)
        first = torch.cat([first, surface], 1) if self.sees_surface else joined(first, 0)
        first = self.enter(first)
        second = self.second(joined(self.down(first), 1))
        third = self.third(joined(self.deep(second), 2))
        whole = torch.cat([third.mean((2, 3)), third.amax((2, 3))], 1)
        third = third + self.context(whole)[..., None, None]
        third = resized(third, second.shape[-2:])
        second = resized(self.middle(torch.cat([second, third], 1)), first.shape[-2:])
        first = resized(self.leave(torch.cat([first, second], 1)), fine.shape[-2:])
        return self.last(self.join(torch.cat([first, fine], 1)))


class ChangeNet(nn.Module):
    """A few `Member`s, each trained by itself, whose logits' mean is weighted by SHARES.

    Attributes:
        name, fingerprint: which weights, for the records.
    """

    def __init__(
        self,
        num_maps: int = 24,
        channels: Sequence[int] = (48, 96, 240),
        width: int = 32,
        fine: int = 16,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        """
        Args:
            num_maps: channels of `evidence`.
            channels: of `feature_changes`, of three layers.
            width: channels at stride 4; 16 and 32 more at strides 8 and 16.
            fine: channels at stride 2.
            kinds: of the members.
        """
        super().__init__()
        self.shape = {
            "num_maps": num_maps,
            "channels": list(channels),
            "width": width,
            "fine": fine,
            "kinds": list(kinds),
        }
        self.name, self.fingerprint = "untrained", ""
        self.members = nn.ModuleList(
            Member(num_maps, width, fine, channels, kind) for kind in kinds
        )

    def forward(
        self, maps: Tensor, images: Tensor, surface: Tensor, changes: Sequence[Tensor]
    ) -> Tensor:
        """Logits of a change, [B, 1, H / 2, W / 2], H and W of the enlarged images.

        Args:
            maps: `evidence`; images: `half_images`; surface: `NormalMaps.surface`; changes:
                `feature_changes`.
        """
        shares = [SHARES[kind] for kind in self.shape["kinds"]]
        found = [
            share / sum(shares) * member(maps, images, surface, changes)
            for share, member in zip(shares, self.members, strict=True)
        ]
        return torch.stack(found).sum(0)

    def folded(self) -> ChangeNet:
        """Itself, norms folded into weights: faster, but to be neither trained nor saved."""
        for module in self.eval().modules():
            if isinstance(module, Block):
                whole = fuse_conv_bn_eval(module[0], module[1])
                module[0], module[1] = whole.to(memory_format=torch.channels_last), nn.Identity()
        return self

    @torch.inference_mode()
    def logits(self, compared: Compared, normal: NormalMaps) -> Tensor:
        """Logits of a change, [B, 1, H / 2, W / 2]."""
        seen = evidence(compared, normal), half_images(compared), normal.surface
        seen = (*seen, *feature_changes(compared))
        # On CPUs convolutions take channels side by side without turning them round.
        maps, images, surface, *changes = (
            x.contiguous(memory_format=torch.channels_last) for x in seen
        )
        return self(maps, images, surface, changes)

    def save(self, path: Path, features: str, cfg: DetectConfig) -> None:
        """Write the weights in half precision, and what they were trained with."""
        choices = {key: asdict(cfg)[key] for key in CHOICES}
        about = {"features": features, "choices": choices, "shape": self.shape}
        tensors = {
            name: value.half().contiguous() if value.is_floating_point() else value
            for name, value in self.state_dict().items()
        }
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"about": json.dumps(about)})


def read_change_net(path: Path) -> tuple[ChangeNet, dict]:
    """A net with its weights, and what is written beside them: features, choices, shape.

    Raises:
        UserError: the file can't be read.
    """
    try:
        with safe_open(path, "pt") as content:
            about = json.loads((content.metadata() or {})["about"])
            tensors = {name: content.get_tensor(name) for name in content.keys()}
        net = ChangeNet(**about["shape"])
        net.load_state_dict(tensors)
        return net, {key: about[key] for key in ("features", "choices", "shape")}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"cannot read the change net's weights {path} ({' '.join(str(error).split())[:120]}); "
            "get the file again, or set detect_change = 0"
        ) from error


def load_change_net(
    cfg: DetectConfig, features: Features, device: torch.device | str, path: Path = SHIPPED_WEIGHTS
) -> ChangeNet | None:
    """The net with its weights; says so. None where `detect_change` is 0 or features are others.

    Raises:
        UserError: the comparison isn't the one it was trained with, or the file can't be read.
    """
    if cfg.detect_change == 0:
        return None
    net, about = read_change_net(path)
    trained = about["features"], about["choices"]
    if features.name != trained[0]:
        print(f"change net: none (it was trained on {trained[0]})")
        return None
    for key, value in trained[1].items():
        if getattr(cfg, key) != value:
            raise UserError(
                f"the change net was trained with {key} = {value}, got {getattr(cfg, key)}; "
                "set detect_change = 0"
            )
    if cfg.detect_normal_views == 0:
        raise UserError(
            "the change net needs what is normal, but detect_normal_views is 0; "
            "set detect_change = 0"
        )
    net.fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    net.name = f"ours ({path.name})"
    print(f"change net: {net.name}")
    return net.folded().requires_grad_(False).to(device)
