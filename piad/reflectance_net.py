"""Networks and formulas that take the light out of a photograph.

All of them map sRGB images [B, 3, H, W] in 0..1 to reflectance images [B, 3, H, W] in 0..1, work
on each image alone, and have no state that changes while they run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Initial decomposition network of the paper: the layout of its checkpoint.
ORIGINAL_WIDTHS = (3, 32, 32, 32, 4)
ORIGINAL_LEAK = 0.2
ORIGINAL_BORDER_PX = 6

# Side of the grid cells on which the surround is blurred; far below every sigma used.
SURROUND_CELL_PX = 4
# Noise floor of the image, relative to the local light and absolute (linear units).
RELATIVE_FLOOR = 0.03
ABSOLUTE_FLOOR = 1e-3
# The net halves the image this often below its finest level; sizes are padded to fit.
NET_LEVELS = 4
NET_STRIDE = 2**NET_LEVELS
# Linear light above which a photograph rolls off instead of clipping, of 0..1.
SHOULDER = 0.75


def srgb_to_linear(image: Tensor) -> Tensor:
    """sRGB values 0..1 to linear light 0..1 (IEC 61966-2-1), any shape."""
    image = image.clamp(0, 1)
    # The floor keeps the gradient of the power finite in the branch that is not taken.
    curve = ((image.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(image <= 0.04045, image / 12.92, curve)


def rolled_off(light: Tensor) -> Tensor:
    """Exposed linear light as a camera's tone curve holds it: above SHOULDER it rolls off to 1."""
    over = (light - SHOULDER).clamp(min=0) / (1 - SHOULDER)
    return torch.where(light > SHOULDER, SHOULDER + (1 - SHOULDER) * over / (1 + over), light)


def linear_to_srgb(image: Tensor) -> Tensor:
    """Linear light 0..1 to sRGB values 0..1, any shape."""
    image = image.clamp(0, 1)
    curve = 1.055 * image.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(image <= 0.0031308, image * 12.92, curve)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of [B, C, H, W] with replicated edges; `sigma` in pixels."""
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1)
    batch, channels, height, width = image.shape
    planes = image.reshape(batch * channels, 1, height, width)
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel)
    planes = F.conv2d(
        F.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel.transpose(2, 3)
    )
    return planes.reshape(batch, channels, height, width)


def surround(image: Tensor, sigma: float, cell: int = SURROUND_CELL_PX) -> Tensor:
    """The local mean of an image, at its own size: blurred on a grid of `cell` px cells.

    Args:
        image: [B, C, H, W], H and W multiples of `cell`.
        sigma: width of the Gaussian in pixels of `image`, at least 2 cells.
    """
    coarse = gaussian_blur(F.avg_pool2d(image, cell), sigma / cell)
    return F.interpolate(coarse, scale_factor=float(cell), mode="bilinear", align_corners=False)


def pad_to_multiple(image: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Replicate the edges on all sides until both sizes are multiples; also (top, left) padding."""
    height, width = image.shape[-2:]
    extra_y, extra_x = -height % multiple, -width % multiple
    top, left = extra_y // 2, extra_x // 2
    if extra_y or extra_x:
        image = F.pad(image, (left, extra_x - left, top, extra_y - top), mode="replicate")
    return image, (top, left)


def naka_rushton(light: Tensor, illumination: Tensor) -> Tensor:
    """R = I / (I + L): reflectance squeezed into 0..1; 0.5 where the image equals its light.

    It is a monotone map of I / L (the response curve of retinal adaptation), so nothing clips,
    however wrong L may be.
    """
    return light / (light + illumination)


class Retinex(nn.Module):
    """Reflectance by formula: the light of a pixel is the local mean of its channel.

    L = exp(mean over sigmas of log(blur_sigma(I))) and R = I / (I + L), all per channel in linear
    light, with a floor that keeps noise in the dark from being amplified. One sigma is
    single-scale Retinex, several are multi-scale Retinex; the squeeze is ours.
    """

    def __init__(self, sigmas_px: Sequence[float] = (16.0, 48.0)):
        super().__init__()
        self.sigmas_px = tuple(float(sigma) for sigma in sigmas_px)

    def light(self, linear: Tensor) -> tuple[Tensor, Tensor]:
        """Image above its noise floor and log illumination, both of the shape of `linear`."""
        log_light = sum(
            torch.log(surround(linear, sigma) + ABSOLUTE_FLOOR) for sigma in self.sigmas_px
        ) / len(self.sigmas_px)
        floored = linear + RELATIVE_FLOOR * torch.exp(log_light) + ABSOLUTE_FLOOR
        return floored, log_light

    def log_illumination(self, floored: Tensor, log_light: Tensor) -> Tensor:
        """What stands below the image in the quotient; a net refines it."""
        return log_light

    def decompose(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Image above its floor (linear) and log illumination, padded sizes cut off again."""
        height, width = images.shape[-2:]
        padded, (top, left) = pad_to_multiple(srgb_to_linear(images), NET_STRIDE)
        floored, log_light = self.light(padded)
        log_light = self.log_illumination(floored, log_light)
        rows, columns = slice(top, top + height), slice(left, left + width)
        return floored[..., rows, columns], log_light[..., rows, columns]

    def forward(self, images: Tensor) -> Tensor:
        """sRGB images [B, 3, H, W] in 0..1 -> reflectance, same shape and range."""
        floored, log_light = self.decompose(images)
        return naka_rushton(floored, torch.exp(log_light))


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions with replicated edges and no bias, each with a leaky ReLU."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, padding=1, padding_mode="replicate", bias=False),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate", bias=False),
            nn.LeakyReLU(0.1, inplace=True),
        )


class IlluminationNet(Retinex):
    """Our default: the formula's illumination, refined per channel by a small U-Net.

    The net sees only log(I / local mean), so a gain per channel (exposure, white balance) cancels
    before it, and it works on half-size images: the illumination is what it draws, the detail of
    the reflectance comes from the image itself. No layer has a bias, so that a plain image stays
    mid-grey whatever the weights, and a gamma curve acts on the illumination as on the image. The
    last layer starts at zero: untrained, the net is the formula.
    """

    def __init__(
        self, sigmas_px: Sequence[float] = (48.0,), widths: Sequence[int] = (16, 24, 32, 48)
    ):
        super().__init__(sigmas_px)
        self.widths = tuple(int(width) for width in widths)
        if len(self.widths) != NET_LEVELS:
            raise ValueError(f"widths must hold {NET_LEVELS} numbers, not {len(self.widths)}")
        self.down = nn.ModuleList(
            ConvBlock(channels_in, width)
            for channels_in, width in zip((3, *self.widths[:-1]), self.widths, strict=True)
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(deep, shallow, 1, bias=False)
            for shallow, deep in zip(self.widths[:-1], self.widths[1:], strict=True)
        )
        self.up = nn.ModuleList(ConvBlock(width, width) for width in self.widths[:-1])
        self.head = nn.Conv2d(self.widths[0], 3, 3, padding=1, padding_mode="replicate", bias=False)
        nn.init.zeros_(self.head.weight)

    def log_illumination(self, floored: Tensor, log_light: Tensor) -> Tensor:
        contrast = F.avg_pool2d(torch.log(floored) - log_light, 2)  # [B, 3, H/2, W/2]
        features = contrast
        levels = []
        for index, block in enumerate(self.down):
            features = block(F.avg_pool2d(features, 2) if index else features)
            levels.append(features)
        for index in reversed(range(len(self.up))):
            deeper = F.interpolate(
                self.lateral[index](features),
                scale_factor=2.0,
                mode="bilinear",
                align_corners=False,
            )
            features = self.up[index](levels[index] + deeper)
        change = F.interpolate(
            self.head(features), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return log_light + change


class DecompositionNet(nn.Module):
    """The paper's initial decomposition network, in the layout of `init_low.pth`.

    3x3 convolutions 3 -> 32 -> 32 -> 32 -> 4 with zero padding, leaky ReLU 0.2 between and ReLU
    last; channels 0..2 are reflectance, channel 3 is the illumination (one for all colours).

    Args:
        padding: "original" overwrites the outer 6 px, which the zero padding spoils, with the
            nearest pixel inside them; "replicate" continues the image instead, so that the
            border is as good as the rest.
    """

    def __init__(self, padding: str = "replicate"):
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels in zip(ORIGINAL_WIDTHS[:-1], ORIGINAL_WIDTHS[1:], strict=True):
            layers += [
                nn.Conv2d(channels_in, channels, 3, padding=1),
                nn.LeakyReLU(ORIGINAL_LEAK, inplace=True),
            ]
        self.decom = nn.Sequential(*layers[:-1], nn.ReLU(inplace=True))
        self.padding = padding

    def decompose(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reflectance [B, 3, H, W] and illumination [B, 1, H, W], both >= 0, borders as set."""
        margin = ORIGINAL_BORDER_PX
        if self.padding == "original":
            parts = self.decom(images)[..., margin:-margin, margin:-margin]
            parts = F.pad(parts, (margin,) * 4, mode="replicate")
        else:
            parts = self.decom(F.pad(images, (margin,) * 4, mode="replicate"))
            parts = parts[..., margin:-margin, margin:-margin]
        return parts[:, :3], parts[:, 3:]

    def forward(self, images: Tensor) -> Tensor:
        """sRGB images [B, 3, H, W] in 0..1 -> reflectance, same shape, clamped to 0..1."""
        return self.decompose(images)[0].clamp(0, 1)


class Photograph(nn.Module):
    """No decomposition: the photograph itself, for ablations."""

    def forward(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1)
