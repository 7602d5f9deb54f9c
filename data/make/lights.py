"""Light set-ups: softboxes over a soft ambience, as environment maps in linear RGB, world z up."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Softbox:
    """A lamp at infinity: place and half size in degrees, radiance, colour temperature in K."""

    azimuth: float
    elevation: float
    half_width: float
    half_height: float
    radiance: float
    kelvin: float


@dataclass(frozen=True)
class Light:
    """A light set-up together with the backdrop and the exposure that go with it.

    `sky` and `floor` are the ambience's radiance at the zenith and the nadir. `backdrop` is the
    linear RGB that shows behind the object after exposure, so that it stands for a grey board
    lit by the same lamps.
    """

    softboxes: tuple[Softbox, ...]
    sky: float
    floor: float
    kelvin: float
    backdrop: tuple[float, float, float]
    exposure: float = 1.0


LIGHTS = {
    # the gallery's: bright, even daylight
    "A": Light(
        (
            Softbox(35, 48, 26, 18, 6.5, 5800),
            Softbox(160, 30, 20, 22, 2.6, 6300),
            Softbox(275, 40, 18, 24, 3.8, 6200),
            Softbox(90, -50, 40, 20, 0.8, 6000),
        ),
        sky=0.30,
        floor=0.15,
        kelvin=6200,
        backdrop=(0.80, 0.80, 0.80),
    ),
    # one hard warm lamp
    "B": Light(
        (Softbox(200, 38, 16, 16, 15.0, 3500), Softbox(20, 5, 30, 20, 0.9, 4200)),
        sky=0.13,
        floor=0.08,
        kelvin=4200,
        backdrop=(0.66, 0.63, 0.59),
        exposure=1.35,
    ),
    # a tall cold window and a cool fill
    "C": Light(
        (Softbox(310, 15, 14, 34, 10.0, 8500), Softbox(120, 60, 16, 12, 3.0, 7500)),
        sky=0.26,
        floor=0.14,
        kelvin=8000,
        backdrop=(0.74, 0.77, 0.81),
    ),
    # from straight above, with a lamp from below
    "D": Light(
        (Softbox(80, 80, 18, 18, 13.0, 5000), Softbox(250, -35, 16, 16, 4.0, 5600)),
        sky=0.10,
        floor=0.06,
        kelvin=5000,
        backdrop=(0.62, 0.62, 0.61),
        exposure=1.35,
    ),
    # two narrow strips of mixed colour, cold from one side and tungsten from the other
    "E": Light(
        (Softbox(150, -5, 7, 40, 15.0, 9500), Softbox(335, 25, 8, 38, 13.0, 2900)),
        sky=0.12,
        floor=0.10,
        kelvin=6000,
        backdrop=(0.52, 0.52, 0.55),
        exposure=1.3,
    ),
}
# The joint's photographs: a room with a window, and the lights above over a table, where the
# lower hemisphere adds nothing and the surroundings are darker.
TABLE_LIGHTS = {
    "A": Light(
        (
            Softbox(50, 55, 24, 24, 6.5, 5600),
            Softbox(210, 40, 26, 20, 2.8, 6200),
            Softbox(320, 25, 14, 22, 1.8, 5000),
        ),
        sky=0.42,
        floor=0.20,
        kelvin=5800,
        backdrop=(0.4275, 0.4275, 0.437),
        exposure=0.95,
    ),
    "B": replace(LIGHTS["B"], backdrop=(0.39, 0.338, 0.286), exposure=1.3),
    "C": replace(LIGHTS["C"], backdrop=(0.342, 0.38, 0.437), exposure=0.95),
    "D": replace(LIGHTS["D"], backdrop=(0.30, 0.30, 0.29), exposure=1.0),
    "E": replace(
        LIGHTS["E"],
        softboxes=(Softbox(150, 25, 7, 30, 15.0, 9500), Softbox(335, 35, 8, 30, 13.0, 2900)),
        backdrop=(0.28, 0.28, 0.30),
        exposure=1.3,
    ),
}


def blackbody_rgb(kelvin: float) -> np.ndarray:
    """Linear sRGB of a black body at luminance 1, [3] float32.

    Kim et al.'s cubic fit of the Planckian locus (1667 K to 25 000 K), then CIE xyY to sRGB.
    """
    t = kelvin
    if t < 4000:
        x = -0.2661239e9 / t**3 - 0.2343589e6 / t**2 + 0.8776956e3 / t + 0.179910
    else:
        x = -3.0258469e9 / t**3 + 2.1070379e6 / t**2 + 0.2226347e3 / t + 0.240390
    if t < 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif t < 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    xyz = np.array([x / y, 1.0, (1 - x - y) / y])
    to_rgb = np.array(
        [
            [3.2404542, -1.5371385, -0.4985314],
            [-0.9692660, 1.8760108, 0.0415560],
            [0.0556434, -0.2040259, 1.0572252],
        ]
    )
    return np.clip(to_rgb @ xyz, 0, None).astype(np.float32)


def smoothstep(x):
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x**2 * (3 - 2 * x)


def environment_map(light: Light, height: int = 256) -> np.ndarray:
    """Equirectangular radiance, [height, 2 height, 3] float32, linear RGB.

    Columns run over the azimuth from x through y, rows from the zenith to the nadir.
    """
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    azimuth = (np.arange(2 * height) + 0.5) / (2 * height) * 2 * np.pi
    elevation, azimuth = np.meshgrid(elevation, azimuth, indexing="ij")  # [H, 2H]
    direction = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ],
        -1,
    )
    height_share = 0.5 + 0.5 * np.sin(elevation)
    ambience = light.floor + (light.sky - light.floor) * height_share
    image = ambience[..., None] * blackbody_rgb(light.kelvin)
    for box in light.softboxes:
        a, e = np.radians(box.azimuth), np.radians(box.elevation)
        forward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([-np.sin(a), np.cos(a), 0])
        up = np.cross(forward, right)
        z = direction @ forward
        x = np.degrees(np.arctan2(direction @ right, z))
        y = np.degrees(np.arctan2(direction @ up, z))
        edge = np.maximum(np.abs(x) / box.half_width, np.abs(y) / box.half_height)
        # a soft rim and a hot centre, as a diffuser has
        inside = smoothstep((1.06 - edge) / 0.12) * (z > 0)
        profile = inside * (1.1 - 0.35 * np.minimum(edge, 1) ** 2)
        image = image + (profile * box.radiance)[..., None] * blackbody_rgb(box.kelvin)
    return image.astype(np.float32)


def random_light(rng: np.random.Generator, above_table: bool = False) -> Light:
    """A set-up of one to four softboxes of random place, size, strength and colour.

    The exposure brings the mean irradiance to that of light A within a factor of about 1.5, as a
    camera's meter would; the backdrop takes on the light's mean colour.
    """
    lowest = 10 if above_table else -45
    base = rng.uniform(2700, 9500)
    boxes = []
    for _ in range(rng.integers(1, 5)):
        half_width, half_height = np.exp(rng.uniform(np.log(7), np.log(36), 2))
        radiance = rng.uniform(0.4, 1.6) * 4500 / (half_width * half_height)
        boxes.append(
            Softbox(
                rng.uniform(0, 360),
                rng.uniform(lowest, 85),
                half_width,
                half_height,
                min(radiance, 22.0),
                float(np.clip(base * np.exp(rng.normal(0, 0.25)), 2300, 12000)),
            )
        )
    sky = rng.uniform(0.05, 0.4)
    light = Light(tuple(boxes), sky, sky * rng.uniform(0.3, 1.0), base, (0.5, 0.5, 0.5))
    mean = mean_radiance(light)
    # a table sees the upper half of the sphere only, where the lamps are
    target = mean_radiance(LIGHTS["A"]).mean() * (0.6 if above_table else 1.0)
    exposure = float(target / mean.mean() * np.exp(rng.normal(0, 0.2)))
    tint = (mean / mean.mean()) ** 0.6  # boards behind an object catch less of the lamps' colour
    level = rng.uniform(0.3, 0.8)
    backdrop = tuple(float(c) for c in np.clip(level * tint, 0.03, 0.95))
    return replace(light, backdrop=backdrop, exposure=exposure)


def mean_radiance(light: Light) -> np.ndarray:
    """Radiance averaged over the sphere, linear RGB, [3]."""
    image = environment_map(light, 64)
    weight = np.cos((0.5 - (np.arange(64) + 0.5) / 64) * np.pi)
    return np.einsum("hwc,h->c", image, weight) / (weight.sum() * image.shape[1])
