"""What is printed on an object: an image of inks, drawn in the object's own lengths."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BAR_WIDTHS, BAR_GAPS = (0.006, 0.011, 0.016), (0.008, 0.013)


class Canvas:
    """An image of inks, 0 where there is none, about the middle of a face; x right, y down."""

    def __init__(self, half, per_length: float) -> None:
        """`half`: width and height of the face, halved, in lengths; per_length: pixels of one."""
        self.half, self.per_length = half, per_length
        self.image = Image.new("L", tuple(round(2 * side * per_length) for side in half), 0)
        self.draw = ImageDraw.Draw(self.image)

    def px(self, *places: float) -> list[float]:
        """Pixels of x, y, x, y ..."""
        return [(p + self.half[k % 2]) * self.per_length for k, p in enumerate(places)]

    def write(self, right, down, height, ink, text, stroke=1, anchor="mm") -> None:
        """A text of a height in px, by its middle or as PIL's `anchor` says."""
        font = ImageFont.load_default(size=height)
        place = self.px(right, down)
        self.draw.text(place, text, ink, font, anchor=anchor, stroke_width=stroke)

    def rectangle(self, left, upper, right, lower, ink, outline=None, width: int = 1) -> None:
        """Filled with an ink, or None: outlined by one, `width` px."""
        self.draw.rectangle(self.px(left, upper, right, lower), ink, outline, width)

    def disc(self, right, down, half_width, ink, half_height=None) -> None:
        """An ellipse about a place; a circle without `half_height`."""
        high = half_width if half_height is None else half_height
        box = self.px(right - half_width, down - high, right + half_width, down + high)
        self.draw.ellipse(box, ink)

    def bar_code(self, left, upper, right, lower, ink, seed: int) -> None:
        """Bars of random widths and gaps."""
        rng = np.random.default_rng(seed)
        while left < right - 0.02:
            width = rng.choice(BAR_WIDTHS)
            self.rectangle(left, upper, left + width, lower, ink)
            left += width + rng.choice(BAR_GAPS)

    def inks(self) -> np.ndarray:
        """[rows, columns]."""
        return np.asarray(self.image, int)
