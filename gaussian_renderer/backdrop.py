"""What the gallery's backdrop tells: the background's colour, silhouettes, and the visual hull.

All of it is ours. A backdrop counts as plain when almost all border pixels of almost all photos
have one colour; then silhouettes are read from the photos, and space is carved by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor
from torch.nn.functional import interpolate

from gaussian_renderer.camera import Camera

BORDER = 0.02  # ring whose pixels are taken for backdrop, as a share of the shorter side
TOLERANCE = 0.06  # largest channel difference that still counts as backdrop, of 1
LEAST_TOLERANCE = 0.02  # the same for a backdrop without noise or shading
PLAIN_SHARE = 0.9  # border pixels within the tolerance, median photo
PLAIN_VIEWS = 0.7  # photos whose own border agrees with the gallery's
WORK_SIZE = 200  # longer side, px, at which silhouettes are read
THIN = 1.5  # tolerances that a part too thin for an opening differs by, TOLERANCE at least
SPECK = 9  # px: smaller patches are noise
HOLE = 0.004  # of the image's area: smaller patches of backdrop inside the object are highlights
MISSED_VIEWS = 0.02  # share of views (one at least) that may cut the silhouette wrongly
MISSED_OF_SEEN = 0.1  # share of the views that see a voxel
COARSE, FINE = 40, 80  # voxels along an edge of the carved box, first and second pass


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The gallery's background.

    Attributes:
        colour: of the whole gallery, [C].
        per_image: each photo's own, [V, C].
        plain: whether it is one colour almost everywhere.
        tolerance: largest channel difference that still counts as backdrop, from its own spread.
    """

    colour: Tensor
    per_image: Tensor
    plain: bool
    tolerance: float


def estimate_backdrop(images: Sequence[Tensor]) -> Backdrop:
    """Median of the border pixels of each photo [C, H, W], then the median over photos.

    The median ignores an object that leaves the frame in some views.
    """
    colours, share, usual = [], [], []
    for image in images:  # one at a time: a large gallery's borders alone would fill gigabytes
        border = _border_pixels(image)
        colours.append(border.median(1).values)
        spread = (border - colours[-1][:, None]).abs().amax(0)
        share.append((spread < TOLERANCE).float().mean())
        usual.append(spread.quantile(PLAIN_SHARE))
    per_image, share = torch.stack(colours), torch.stack(share)  # [V, C], [V]
    tolerance = min(TOLERANCE, max(LEAST_TOLERANCE, 2 * torch.stack(usual).median().item()))
    colour = per_image.median(0).values
    near = (per_image - colour).abs().amax(1) < 2 * TOLERANCE
    # a photo whose border is mostly object says nothing of the backdrop
    per_image = torch.where(near[:, None], per_image, colour)
    plain = bool(share.median() >= PLAIN_SHARE and near.float().mean() >= PLAIN_VIEWS)
    return Backdrop(colour, per_image, plain, tolerance)


def _border_pixels(image: Tensor) -> Tensor:
    ring = max(1, round(BORDER * min(image.shape[1:])))
    parts = [image[:, :ring], image[:, -ring:]]
    parts += [image[:, ring:-ring, :ring], image[:, ring:-ring, -ring:]]
    return torch.cat([p.flatten(1) for p in parts], 1)  # [C, number of pixels]


def silhouette(image: Tensor, colour: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Foreground of a photo [C, H, W] before a backdrop of `colour` [C]: bool [H, W].

    Opened by 3 x 3 against noise. That would take rods and wires away, so what differs clearly
    stays, but for small patches. Patches of the backdrop's colour that do not reach the photo's
    border count as seen through the object when they are large, else as highlights on it.
    """
    difference = (image - colour.to(image)[:, None, None]).abs().amax(0)
    mask = dilated(eroded((difference > tolerance).float(), 1), 1) > 0.5
    mask |= _without_specks(difference > max(TOLERANCE, THIN * tolerance))
    patches, count = label(~mask.cpu().numpy())
    patches = torch.from_numpy(patches).long()
    area = torch.bincount(patches.flatten(), minlength=count + 1)
    backdrop = area >= HOLE * mask.numel()
    for edge in (patches[0], patches[-1], patches[:, 0], patches[:, -1]):
        backdrop[edge] = True
    backdrop[0] = False  # the foreground's label
    return ~backdrop[patches].to(mask.device)


def _without_specks(mask: Tensor) -> Tensor:
    """A mask [H, W] without patches of fewer than SPECK pixels, which touch at corners, too."""
    patches, _ = label(mask.cpu().numpy(), structure=np.ones((3, 3)))
    patches = torch.from_numpy(patches).long()
    large = torch.bincount(patches.flatten()) >= SPECK
    large[0] = False  # what is no foreground
    return large[patches].to(mask.device)


def dilated(mask: Tensor, radius: int) -> Tensor:
    """Maximum over squares of side 2 radius + 1, for [..., H, W]."""
    for dim in (-1, -2):  # a square is a row of rows; shifted maxima beat pooling manyfold on a CPU
        size, widened = mask.shape[dim], mask.clone()
        for k in range(1, min(radius, size - 1) + 1):
            before, after = mask.narrow(dim, 0, size - k), mask.narrow(dim, k, size - k)
            for source, first in ((before, k), (after, 0)):
                part = widened.narrow(dim, first, size - k)
                torch.maximum(part, source, out=part)
        mask = widened
    return mask


def eroded(mask: Tensor, radius: int) -> Tensor:
    """Minimum over squares of side 2 radius + 1; beyond the image counts as inside."""
    return 1 - dilated(1 - mask, radius)


@dataclass(frozen=True, eq=False)
class Hull:
    """Voxels that no silhouette excludes.

    Attributes:
        xyz: centres of all occupied voxels, [M, 3].
        surface: which of them touch an empty voxel, bool [M].
        normals: outward unit normals, [M, 3] (of use at the surface).
        voxel: edge length, world units.
    """

    xyz: Tensor
    surface: Tensor
    normals: Tensor
    voxel: float


def certain_foreground(image: Tensor, camera: Camera, colour: Tensor) -> Tensor:
    """Where a photo [C, H, W] surely shows the object: bool [H, W] at the photo's size.

    Nothing is closed here, so that narrow gaps of the object stay open.
    """
    k = work_cameras([camera])[0].intrinsics
    small = interpolate(image[None, :3], size=(k.height, k.width), mode="area")[0]
    difference = (small - colour.to(small)[:3, None, None]).abs().amax(0)
    mask = eroded((difference > TOLERANCE).float(), 1)
    return interpolate(mask[None, None], size=image.shape[1:], mode="nearest")[0, 0] > 0.5


def work_cameras(cameras: Sequence[Camera], longer_side: int = WORK_SIZE) -> list[Camera]:
    """The cameras at the resolution silhouettes are read at; never enlarged."""
    small = []
    for camera in cameras:
        width, height = camera.intrinsics.width, camera.intrinsics.height
        factor = min(1.0, longer_side / max(width, height))
        small.append(camera.resized(max(1, round(width * factor)), max(1, round(height * factor))))
    return small


@dataclass(frozen=True, eq=False)
class Silhouettes:
    """What each view's silhouette says of points in space.

    Attributes:
        cameras: at the resolution that silhouettes are read at.
        masks: bool [H, W] each, wider than the silhouette by a pixel, for a voxel's own extent.
    """

    cameras: list[Camera]
    masks: list[Tensor]

    @classmethod
    def read(
        cls, cameras: Sequence[Camera], images: Sequence[Tensor], backdrop: Backdrop
    ) -> Silhouettes:
        """From photos [C, H, W] before a plain backdrop."""
        small = work_cameras(cameras)
        masks = []
        for image, camera, colour in zip(images, small, backdrop.per_image, strict=True):
            size = (camera.intrinsics.height, camera.intrinsics.width)
            resized = interpolate(image[None, :3], size=size, mode="area")[0]
            mask = silhouette(resized, colour[:3], backdrop.tolerance)
            masks.append(dilated(mask.float(), 1) > 0.5)
        return cls(small, masks)

    def hold(self, points: Tensor) -> Tensor:
        """Which points [N, 3] lie in the silhouette, or out of the frame, in all views but a few.

        A share of MISSED_VIEWS may err: bool [N].
        """
        on_cpu = points.device.type == "cpu"
        alive = torch.arange(len(points), device=points.device)
        misses = torch.zeros(len(points), dtype=torch.int32, device=points.device)
        seen = torch.zeros_like(misses)
        most = max(1.0, MISSED_VIEWS * len(self.cameras))
        for i, (camera, mask) in enumerate(zip(self.cameras, self.masks, strict=True)):
            column, row, in_frame = pixel_of(points[alive], camera)
            seen[alive] += in_frame
            misses[alive] += in_frame & ~mask.to(points.device, non_blocking=True)[row, column]
            if on_cpu and i % 4 == 3:  # carry on with those that can still pass; a GPU would wait
                alive = alive[misses[alive] <= most]
        # near the box's corners few views tell; there none may err
        return (seen >= 2) & (misses <= most) & (misses <= MISSED_OF_SEEN * seen)


def carve(silhouettes: Silhouettes, box: Tensor) -> Hull | None:
    """Visual hull within `box` [2, 3] (lower and upper corner) from silhouettes.

    Returns None when nothing or almost everything stays.
    """
    for resolution in (COARSE, FINE):
        voxel = ((box[1] - box[0]).amax() / resolution).item()
        counts = ((box[1] - box[0]) / voxel).ceil().long().clamp_min(1)
        axes = [box[0, i] + (torch.arange(int(counts[i])) + 0.5) * voxel for i in range(3)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # [X, Y, Z, 3]
        occupied = silhouettes.hold(grid.reshape(-1, 3)).reshape(grid.shape[:3])
        share = occupied.float().mean()
        if not occupied.any() or (resolution == COARSE and share > 0.9):
            return None
        inside = grid[occupied]
        margin = 2 * voxel
        box = torch.stack([inside.amin(0) - margin, inside.amax(0) + margin])
    return _hull(grid, occupied, voxel)


def pixel_of(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Integer column and row [N] of world points [N, 3], clamped, and whether they are in frame."""
    viewmat = camera.viewmat(points.device, points.dtype)
    k = camera.intrinsics
    x, y, z = (points @ viewmat[:3, :3].T + viewmat[:3, 3]).unbind(-1)
    depth = z.clamp_min(1e-6)
    u, v = k.fx * x / depth + k.cx, k.fy * y / depth + k.cy
    in_frame = (z > 1e-6) & (u >= 0) & (v >= 0) & (u < k.width) & (v < k.height)
    column = u.clamp(0, k.width - 1).long()
    row = v.clamp(0, k.height - 1).long()
    return column, row, in_frame


def _hull(grid: Tensor, occupied: Tensor, voxel: float) -> Hull:
    volume = occupied.float()[None, None]
    padded = torch.nn.functional.pad(volume, (1,) * 6)
    smooth = torch.nn.functional.avg_pool3d(
        torch.nn.functional.pad(volume, (3,) * 6), 5, 1
    )  # one voxel more on each side, for the central differences
    gradient = torch.stack(
        [
            smooth[0, 0, 2:, 1:-1, 1:-1] - smooth[0, 0, :-2, 1:-1, 1:-1],
            smooth[0, 0, 1:-1, 2:, 1:-1] - smooth[0, 0, 1:-1, :-2, 1:-1],
            smooth[0, 0, 1:-1, 1:-1, 2:] - smooth[0, 0, 1:-1, 1:-1, :-2],
        ],
        -1,
    )
    empty_neighbour = -torch.nn.functional.max_pool3d(-padded, 3, 1)[0, 0] < 0.5
    return Hull(
        xyz=grid[occupied],
        surface=empty_neighbour[occupied],
        normals=torch.nn.functional.normalize(-gradient[occupied], dim=-1),
        voxel=voxel,
    )
