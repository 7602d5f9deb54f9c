"""Random objects with defects, path-traced: what the change net is trained on.

Objects, defects, cameras, lights and masks are those of `piad.solid_objects`; its marched shading
gives way to meshes under environment maps, with all that light does between surfaces.

    python -m data.make.make_random_objects data/traced_objects --count 100 [--device cuda]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from piad.random_lights import radiance_map
from piad.random_objects import Object
from piad.reflectance_data import uniform
from piad.reflectance_net import linear_to_srgb, rolled_off
from piad.reflectance_solids import IMAGE_WIDTH, Light, Solids, View
from piad.solid_objects import SIDE, metered, object_options, write_objects

from .iso_surface import CHUNK, surface_nets
from .mesh import Mesh
from .render import Stage, denoised, vertex_material

FOV_X = 2 * math.atan(IMAGE_WIDTH / 2)
CELL = 0.8  # side of a mesh's cells, in pixels at the camera's distance from the origin
BEYOND = 1.25  # times the object's radius: what a defect may add
LACQUERED = 0.2  # share of objects under a clear coat
NOISE = 0.005  # standard deviation of the noisiest camera's pixels, sRGB


def mesh_of(scene: Object) -> Mesh:
    """The object's surface, its materials and the grain of its normals per vertex."""
    table = float(scene.solids[-1].size[0]) if scene.table else 0.0
    half = 1.05 * max(BEYOND * scene.room, 0.62 * table)
    step = CELL * scene.camera_distance * IMAGE_WIDTH / SIDE
    vertices, faces = surface_nets(scene.distance, half, step)
    parts = []
    for points in vertices.split(CHUNK // 4):
        points = points - scene.distance(points)[:, None] * Solids.normals(scene, points)
        parts.append(torch.cat([points, scene.normals(points), *scene.materials(points)], 1))
    found = torch.cat(parts).cpu().numpy()
    mesh = Mesh(found[:, :3], faces.to(torch.int32).cpu().numpy().view(np.uint32), found[:, 3:6])
    return mesh.painted(found[:, 6:], least_roughness=0.05)


class PathTracer:
    """Takes an object's photographs as `piad.solid_objects.photograph` does, of its mesh."""

    def __init__(self, samples: int, generator: Generator) -> None:
        """
        Args:
            samples: paths per pixel.
            generator: of the object's coat and of the camera's noise.
        """
        self.samples, self.photographs = samples, 0
        coat = float(torch.rand((), generator=generator) < LACQUERED)
        self.material = vertex_material(
            specular=float(uniform(0.35, 0.6, generator, 1)),
            clearcoat=coat * float(uniform(0.3, 1.0, generator, 1)),
            clearcoat_gloss=float(uniform(0.7, 1.0, generator, 1)),
        )
        self.noise = NOISE * float(uniform(0, 1, generator, 1))
        self._flawless: tuple[Object, Stage] | None = None
        self._latest: tuple[Object, Stage] | None = None

    def _stage(self, scene: Object) -> Stage:
        """Those of the first object it saw, the flawless one, and of the last stay."""
        for known in (self._flawless, self._latest):
            if known is not None and known[0] is scene:
                return known[1]
        self._latest = None  # before the next is made
        self._latest = scene, Stage([(mesh_of(scene), self.material)])
        self._flawless = self._flawless or self._latest
        return self._latest[1]

    def __call__(
        self,
        scene: Object,
        pose: Tensor,
        view: View | None,
        light: Light,
        gain: Tensor | None,
        generator: Generator,
    ) -> tuple[Tensor, Tensor]:
        """A photograph [3, SIDE, SIDE] sRGB, and its gain."""
        stage = self._stage(scene)
        stage.surround(radiance_map(light).cpu().numpy())
        self.photographs += 1
        layers = stage.trace(
            pose.cpu().numpy(), (SIDE, SIDE), self.samples, self.photographs, FOV_X
        )
        traced, alpha, albedo, normal = (
            torch.from_numpy(layers).to(pose.device).split((3, 1, 3, 3), 2)
        )
        gain = metered(light, traced[alpha[..., 0] > 0.99]) if gain is None else gain
        image = gain * traced + (1 - alpha) * light.backdrop
        image = denoised(image, albedo + (1 - alpha), normal)
        srgb = linear_to_srgb(rolled_off(image.permute(2, 0, 1)))
        noise = self.noise * torch.randn(srgb.shape, generator=generator)
        return (srgb + noise).clamp(0, 1), gain


def main(argv: Sequence[str] | None = None) -> None:
    """Write random objects, path-traced."""
    parser = object_options(__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=32, help="paths per pixel")
    options = parser.parse_args(argv)
    if options.device.startswith("cuda"):
        import mitsuba

        mitsuba.set_variant("cuda_ad_rgb")
    write_objects(options, partial(PathTracer, options.samples))


if __name__ == "__main__":
    main()
