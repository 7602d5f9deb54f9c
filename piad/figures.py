"""Figures of a class: six panels per query, a contact sheet, ROC curves.

Panels are composed with numpy and PIL, which takes hundredths of a second per query; matplotlib
gives the colours and draws the ROC curves, through its object interface without global state.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from gaussian_renderer.files import atomic_path, write_image
from piad.metrics import Curve

PANELS = (
    "image", "rendering", "ground truth",
    "heat map", "mask found", "contour: red found, green ground truth",
)  # fmt: skip
PANEL_PX = 320  # width of a panel
MARGIN_PX, TITLE_PX, FOOTER_PX, BAR_PX = 10, 26, 30, 16
THUMB_PX, SHEET_COLUMNS, FRAME_PX = 150, 5, 4
PAPER, INK, FAINT = (255, 255, 255), (25, 25, 25), (235, 235, 235)
FOUND_COLOUR, TRUTH_COLOUR = (230, 30, 40), (20, 170, 60)  # found in red, ground truth in green
LABEL_COLOURS = {0: TRUTH_COLOUR, 1: FOUND_COLOUR}
HEAT_SHARE = 0.7  # most of the heat map's colours in its panel; the rest is the photograph
THRESHOLD_AT = 0.5  # of the colour scale: half-way colours mean the pixel threshold
COLOUR_MAP = "turbo"


def query_figure(
    path: Path,
    photo: np.ndarray,
    rendering: np.ndarray | None,
    truth: np.ndarray | None,
    scores: np.ndarray,
    threshold: float | None,
    top: float,
    caption: str,
) -> None:
    """Write the six panels of one query.

    Args:
        photo, rendering: uint8 [H, W, 3]; rendering None where no pose was found.
        truth: bool [H, W]; None where the class has no masks.
        scores: anomaly map, [H, W].
        threshold: map values from here on are marked; None marks nothing.
        top: value at the upper end of the colour scale.
        caption: line under the panels.
    """
    size = _panel_size(photo)
    found = _found(scores, threshold)
    small = _resize(photo, size)
    images = [
        small,
        _resize(rendering, size) if rendering is not None else "no pose found",
        _resize(_black_and_white(truth), size) if truth is not None else "none given",
        heat_overlay(small, _resize(scores, size), top),
        _resize(_black_and_white(found), size),
        contours(photo, found, truth, size),
    ]
    _write_panels(path, dict(zip(PANELS, images, strict=True)), 3, size, threshold, caption)


def photograph_figure(
    path: Path,
    photo: np.ndarray,
    rendering: np.ndarray | None,
    scores: np.ndarray,
    threshold: float | None,
    top: float,
    caption: str,
) -> None:
    """Write the four panels of a photograph without ground truth; arguments as `query_figure`."""
    size = _panel_size(photo)
    small = _resize(photo, size)
    panels = {
        "image": small,
        "rendering": _resize(rendering, size) if rendering is not None else "no pose found",
        "heat map": heat_overlay(small, _resize(scores, size), top),
        "contour of what was found": contours(photo, _found(scores, threshold), None, size),
    }
    _write_panels(path, panels, 2, size, threshold, caption)


def _write_panels(
    path: Path,
    panels: dict[str, np.ndarray | str],
    columns: int,
    size: tuple[int, int],
    threshold: float | None,
    caption: str,
) -> None:
    """Panels of `size`, row by row under their titles; a text says why its panel is empty."""
    width, height = size
    step_x, step_y = width + MARGIN_PX, height + TITLE_PX
    rows = -(-len(panels) // columns)
    bar = MARGIN_PX + columns * step_x
    canvas = Image.new("RGB", (bar + MARGIN_PX + BAR_PX, rows * step_y + FOOTER_PX), PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, (name, panel) in enumerate(panels.items()):
        left = MARGIN_PX + index % columns * step_x
        up = index // columns * step_y + TITLE_PX
        draw.text((left, up - TITLE_PX + 6), name, fill=INK, font=_font(14))
        if isinstance(panel, str):
            draw.rectangle((left, up, left + width - 1, up + height - 1), fill=FAINT)
            centre = (left + width // 2, up + height // 2)
            draw.text(centre, panel, fill=INK, font=_font(16), anchor="mm")
        else:
            canvas.paste(Image.fromarray(panel), (left, up))
    _draw_bar(canvas, (bar, (rows - 1) * step_y + TITLE_PX, BAR_PX, height), threshold)
    draw.text((MARGIN_PX, rows * step_y + 8), caption, fill=INK, font=_font(14))
    write_image(path, np.asarray(canvas))


def _panel_size(photo: np.ndarray) -> tuple[int, int]:
    """(width, height) of a photograph's panel."""
    return PANEL_PX, max(1, round(PANEL_PX * photo.shape[0] / photo.shape[1]))


def _found(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """Where the map reaches the threshold, bool [H, W]."""
    return scores >= threshold if threshold is not None else np.zeros(scores.shape, dtype=bool)


def heat_overlay(photo: np.ndarray, scores: np.ndarray, top: float) -> np.ndarray:
    """The map's colours over the photograph in grey, uint8 [H, W, 3]; `top` is the scale's end."""
    index = (255 * scores / max(top, 1e-12)).clip(0, 255).astype(np.uint8)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]
    # Low scores stay nearly grey, so that the photograph is seen where nothing is found.
    share = HEAT_SHARE * (index / (255 * THRESHOLD_AT)).clip(0, 1)[..., None]
    mixed = share * _palette()[index] + (1 - share) * grey
    return mixed.round().astype(np.uint8)


def contours(
    photo: np.ndarray, found: np.ndarray, truth: np.ndarray | None, size: tuple[int, int]
) -> np.ndarray:
    """The photograph with outlines: ground truth under, what was found over it, [h, w, 3]."""
    result = _resize(photo, size).copy()
    for mask, colour in ((truth, TRUTH_COLOUR), (found, FOUND_COLOUR)):
        if mask is None:
            continue
        large = _resize(255 * mask.astype(np.uint8), size)
        outlines, _ = cv2.findContours(
            (large > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(result, outlines, -1, colour, 2, cv2.LINE_AA)
    return result


def thumbnail(
    photo: np.ndarray, scores: np.ndarray, found_colour: tuple[int, int, int], top: float
) -> np.ndarray:
    """Photograph beside heat map in a coloured frame, for the contact sheet."""
    height = max(1, round(THUMB_PX * photo.shape[0] / photo.shape[1]))
    small = _resize(photo, (THUMB_PX, height))
    heat = heat_overlay(small, _resize(scores, (THUMB_PX, height)), top)
    pair = np.concatenate([small, heat], axis=1)
    widths = ((FRAME_PX, FRAME_PX), (FRAME_PX, FRAME_PX))
    channels = [np.pad(pair[..., k], widths, constant_values=found_colour[k]) for k in range(3)]
    return np.stack(channels, axis=-1)


def contact_sheet(path: Path, title: str, cells: list[tuple[np.ndarray, str]]) -> None:
    """Write all thumbnails with a line of text each, row by row in the order given."""
    if not cells:
        return
    cell_height = max(image.shape[0] for image, _ in cells) + 22
    cell_width = max(image.shape[1] for image, _ in cells) + MARGIN_PX
    columns = min(SHEET_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    # The title needs its room even over a single column.
    title_width = round(_font(16).getlength(title)) + 2 * MARGIN_PX
    width = max(MARGIN_PX + columns * cell_width, title_width)
    canvas = Image.new("RGB", (width, 40 + rows * cell_height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN_PX, 10), title, fill=INK, font=_font(16))
    for index, (image, text) in enumerate(cells):
        left = MARGIN_PX + index % columns * cell_width
        up = 40 + index // columns * cell_height
        canvas.paste(Image.fromarray(image), (left, up))
        draw.text((left, up + image.shape[0] + 2), text, fill=INK, font=_font(12))
    write_image(path, np.asarray(canvas))


def roc_plot(path: Path, title: str, curve: Curve | None, auroc: float | None) -> None:
    """Write a ROC plot; without a curve it says that only one class is present."""
    figure = Figure(figsize=(4.6, 4.4), dpi=130, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, linestyle="--")
    if curve is None or auroc is None:
        axes.text(0.5, 0.55, "undefined: only one class is present", ha="center")
    else:
        x, y = _thinned(curve)
        axes.plot(x, y, color="#1f5fa8", linewidth=2, label=f"AUROC {auroc:.4f}")
        axes.fill_between(x, y, color="#1f5fa8", alpha=0.10, linewidth=0)
        axes.legend(loc="lower right", frameon=False)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=title)
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate")
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        canvas.print_figure(temporary)


def _thinned(curve: Curve, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` points of the curve, evenly along its length."""
    x, y = curve.false_positive_rate, curve.true_positive_rate
    if len(x) <= count:
        return x, y
    along = x + y  # both grow, so this is the length in the city-block sense
    keep = np.unique(np.searchsorted(along, np.linspace(0, along[-1], count)).clip(0, len(x) - 1))
    return x[keep], y[keep]


def _draw_bar(canvas: Image.Image, box: tuple[int, int, int, int], threshold: float | None) -> None:
    """The colour scale, with a tick at the pixel threshold."""
    left, up, width, height = box
    ramp = _palette()[np.linspace(255, 0, height).round().astype(int)][:, None]
    canvas.paste(Image.fromarray(np.repeat(ramp, width, axis=1)), (left, up))
    if threshold is not None:
        y = up + round((1 - THRESHOLD_AT) * (height - 1))
        ImageDraw.Draw(canvas).line((left - 4, y, left + width + 3, y), fill=INK, width=2)


def _black_and_white(mask: np.ndarray) -> np.ndarray:
    return np.repeat(255 * mask.astype(np.uint8)[..., None], 3, axis=2)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _palette() -> np.ndarray:
    """256 colours, uint8 [256, 3]."""
    return (255 * matplotlib.colormaps[COLOUR_MAP](np.arange(256))[:, :3]).round().astype(np.uint8)


def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib's own font: the same letters on every machine
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
