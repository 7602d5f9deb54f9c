"""EfficientLoFTR (Wang, He, Peng, Tan, Zhou, CVPR 2024) as a matcher.

The network's parts are transformers'; the matching of coarse and fine features is written here,
since it lets the convolutional features be computed once per image and only matched windows be
refined. The features of both images pass the transformer together, so that part can't be kept.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from EfficientLoFTR.checkpoint import read_checkpoint, tensors_hash
from EfficientLoFTR.errors import CheckpointError
from EfficientLoFTR.interface import Features, Matches, to_grey

HUB_NAME = "zju-community/efficientloftr"
STRIDE = 32  # coarse cells of 8 px, aggregated by 4
CELL = 8  # px, side of a coarse cell and of its fine window
COARSE_THRESHOLD = 0.2  # published configuration
COARSE_TEMPERATURE = 0.1
BORDER_CELLS = 2
FINE_SLICE = 8  # channels kept for the second fine stage
FINE_TEMPERATURE = 10.0


def build_network(state: dict[str, Tensor] | None = None):
    """The full model in eval mode; `state` in transformers' names, else random weights."""
    from transformers import EfficientLoFTRConfig, EfficientLoFTRForKeypointMatching

    network = EfficientLoFTRForKeypointMatching(EfficientLoFTRConfig())
    if state is not None:
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"the tensors do not fit EfficientLoFTR: {reason}") from error
    return network.eval()


def download_network():
    """The model from the Hugging Face hub (or its local cache).

    Raises:
        CheckpointError: neither cached nor reachable.
    """
    from transformers import EfficientLoFTRForKeypointMatching

    try:
        return EfficientLoFTRForKeypointMatching.from_pretrained(HUB_NAME).eval()
    except Exception as error:  # the hub's client raises a dozen types for "not reachable"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"cannot download {HUB_NAME} ({reason}); put eloftr_outdoor.ckpt into "
            "EfficientLoFTR/weights/ or choose matcher = xfeat"
        ) from error


class EfficientLoFTRMatcher:
    """Semi-dense matches; features of an image are its three convolutional maps.

    At 416x416 px they take 19 MB per image (9.6 MB in half precision), which is why they are kept
    in memory as half precision and never on disk.
    """

    storable = False

    def __init__(self, network, name: str, *, device="cpu", size: int = 416) -> None:
        """`size`: longer side in px to which images are resampled before matching."""
        self.device = torch.device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.network = network.to(device=self.device, dtype=self.dtype)
        self.name = name
        self.size = -(-size // STRIDE) * STRIDE
        self.batch = 8 if self.device.type == "cuda" else 1
        self.signature = f"eloftr-{tensors_hash(network.state_dict())}-{self.size}"

    @classmethod
    def from_checkpoint(cls, path: str | Path, **options) -> EfficientLoFTRMatcher:
        """From the published file."""
        return cls(build_network(read_checkpoint(path)), f"EfficientLoFTR ({path})", **options)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> list[Features]:
        """The convolutional maps at 1/2, 1/4 and 1/8 of the resampled image."""
        height, width = images.shape[-2:]
        scale = self.size / max(height, width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        outer = [-(-side // STRIDE) * STRIDE for side in inner]
        grey = to_grey(images.to(self.device, torch.float32))
        grey = F.interpolate(grey, inner, mode="bilinear", align_corners=False, antialias=True)
        grey = F.pad(grey, (0, outer[1] - inner[1], 0, outer[0] - inner[0])).to(self.dtype)
        results = []
        for image in grey.split(self.batch):
            maps = self.network.efficientloftr.backbone(image)
            for i in range(len(image)):
                kept = {f"map{level}": m[i].half() for level, m in enumerate(maps)}
                kept["size"] = torch.tensor([width, height], dtype=torch.float32)
                kept["inner"] = torch.tensor([inner[1], inner[0]], dtype=torch.float32)
                results.append(kept)
        return results

    def match(self, a: Features, b: Features) -> Matches:
        """Corresponding points of one pair."""
        return self.match_many(a, [b])[0]

    @torch.inference_mode()
    def match_many(self, a: Features, others: list[Features]) -> list[Matches]:
        """Corresponding points of `a` with each of `others`."""
        results = []
        for start in range(0, len(others), self.batch):
            results += self._match_batch(a, others[start : start + self.batch])
        return results

    def _match_batch(self, a: Features, others: list[Features]) -> list[Matches]:
        everything = [a, *others]
        maps = []
        for level in range(3):
            levels = [features[f"map{level}"] for features in everything]
            height = max(m.shape[1] for m in levels)
            width = max(m.shape[2] for m in levels)
            padded = [F.pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in levels]
            first, rest = padded[0], padded[1:]
            pairs = torch.stack([torch.stack([first, other]) for other in rest])
            maps.append(pairs.to(self.device, self.dtype))  # [B, 2, C, h, w]
        coarse = coarse_transform(self.network, maps[2])
        fine = fine_pyramid(self.network, coarse, maps[:2])
        results = []
        for pair, b in enumerate(others):
            points, confidence = match_features(coarse[pair].float(), fine[pair].float())
            results.append(_inside(points, confidence, a, b))
        return results


def coarse_transform(network, coarse: Tensor) -> Tensor:
    """Self and cross attention over pairs of coarse maps [B, 2, C, h, w]; same shape."""
    batch, _, channels = coarse.shape[:3]
    cosine, sine = network.efficientloftr.rotary_emb(coarse.flatten(0, 1))
    positions = tuple(
        part.expand(batch * 2, -1, -1, -1).reshape(batch * 2, -1, channels)
        for part in (cosine, sine)
    )
    transformer = network.efficientloftr.local_feature_transformer
    return transformer(coarse, position_embeddings=positions)


def fine_pyramid(network, coarse: Tensor, maps: list[Tensor]) -> Tensor:
    """Full-resolution fine features [B, 2, 64, H, W] of transformed coarse and earlier maps."""
    scaled = (coarse / coarse.shape[2] ** 0.5).flatten(0, 1)
    earlier = [m.flatten(0, 1) for m in reversed(maps)]
    fine = network.refinement_layer.forward_pyramid(scaled, earlier)
    return fine.unflatten(0, coarse.shape[:2])


def coarse_confidence(coarse: Tensor) -> Tensor:
    """Dual softmax [h*w, h*w] of a pair's transformed coarse features [2, C, h, w]."""
    a, b = (coarse.flatten(2) / coarse.shape[1] ** 0.5).unbind(0)  # [C, h*w] each
    similarity = a.T @ b / COARSE_TEMPERATURE
    return similarity.softmax(0) * similarity.softmax(1)


def match_features(coarse: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
    """Matches of one pair.

    Args:
        coarse: transformed coarse features [2, C, h, w].
        fine: fine features [2, 64, 8h, 8w].
    Returns:
        points [2, M, 2] (x, y) in px of the network's input, pixel centres at +0.5, and the
        coarse confidence [M].
    """
    height, width = coarse.shape[-2:]
    confidence = coarse_confidence(coarse)
    keep = confidence > COARSE_THRESHOLD
    inner = torch.zeros(height, width, dtype=torch.bool, device=coarse.device)
    inner[BORDER_CELLS:-BORDER_CELLS, BORDER_CELLS:-BORDER_CELLS] = True
    keep &= inner.flatten()[:, None] & inner.flatten()[None, :]
    keep &= confidence == confidence.max(0, keepdim=True).values
    keep &= confidence == confidence.max(1, keepdim=True).values
    index_a, index_b = torch.nonzero(keep, as_tuple=True)
    cells = torch.stack([index_a, index_b])  # [2, M]
    origin = torch.stack([cells % width, cells // width], -1) * CELL  # [2, M, 2], x y
    points = _refine(fine, origin) if len(index_a) else torch.zeros(2, 0, 2, device=coarse.device)
    return points, confidence[index_a, index_b]


def _windows(fine: Tensor, origin: Tensor, margin: int) -> Tensor:
    """Fine features [M, (8+2*margin)^2, C] of the windows that start at `origin` [M, 2]."""
    steps = torch.arange(-margin, CELL + margin, device=fine.device)
    rows = origin[:, 1, None] + steps
    columns = origin[:, 0, None] + steps
    return fine[:, rows[:, :, None], columns[:, None, :]].flatten(2).permute(1, 2, 0)


def _refine(fine: Tensor, origin: Tensor) -> Tensor:
    """The two fine stages: best pair of pixels in the windows, then a 3x3 expectation in b."""
    margin, side = 1, CELL + 2
    a = _windows(fine[0], origin[0], 0)  # [M, 64, C]
    b = _windows(fine[1], origin[1], margin)  # [M, 100, C]
    first = a.shape[-1] - FINE_SLICE
    score = a[..., :first] @ b[..., :first].transpose(1, 2) / first
    score = (score.softmax(1) * score.softmax(2)).unflatten(2, (side, side))
    best = score[..., margin:-margin, margin:-margin].flatten(1).argmax(1)
    pixel_a, pixel_b = best // CELL**2, best % CELL**2
    row, column = pixel_b // CELL, pixel_b % CELL

    matches = torch.arange(len(best), device=fine.device)
    chosen = a[matches, pixel_a, first:]  # [M, 8]
    score = torch.einsum("mc,mpc->mp", chosen, b[..., first:]) / FINE_SLICE**0.5
    steps = torch.arange(3, device=fine.device)
    patch = score.unflatten(1, (side, side))[
        matches[:, None, None],
        (row[:, None] + steps)[:, :, None],
        (column[:, None] + steps)[:, None, :],
    ]  # [M, 3, 3]; the margin makes index row + 0 the pixel above
    heat = (patch.flatten(1) / FINE_TEMPERATURE).softmax(1).unflatten(1, (3, 3))
    offset = torch.stack(
        [heat.sum(1) @ (steps - 1.0).to(heat), heat.sum(2) @ (steps - 1.0).to(heat)], -1
    )
    # A coarse cell is centred on its first pixel (stride-2 convolutions with padding 1), so
    # window pixel k lies at k - 3.5 from it; +0.5 turns pixel indices into our coordinates.
    centre = 0.5 - (CELL - 1) / 2
    in_a = torch.stack([pixel_a % CELL, pixel_a // CELL], -1)
    in_b = torch.stack([column, row], -1) + offset
    return torch.stack([origin[0] + in_a + centre, origin[1] + in_b + centre])


def _inside(points: Tensor, confidence: Tensor, a: Features, b: Features) -> Matches:
    """Points in the given images' pixels, without those that fall on the padding."""
    points, confidence = points.float().cpu(), confidence.float().cpu()
    ok = torch.ones(len(confidence), dtype=torch.bool)
    mapped = []
    for side, features in zip(points, (a, b), strict=True):
        ok &= ((side >= 0) & (side <= features["inner"])).all(1)
        mapped.append(side * (features["size"] / features["inner"]))
    return Matches(mapped[0][ok], mapped[1][ok], confidence[ok])
