"""Path-traced views of meshes under a light, denoised; the only module that touches Mitsuba."""

from functools import cache

import numpy as np

from .cameras import FOV_X
from .lights import LIGHTS, Light, environment_map
from .masks import Hits, changed_surface, tidy_mask
from .mesh import Mesh, Surface, unit

MASK_SEED = 5  # the same rays for the flawless and the defective scene


@cache
def mitsuba():
    """The module in the variant set, else LLVM: scalar_rgb takes some twenty times as long."""
    import mitsuba as mi

    if mi.variant() is None:
        mi.set_variant("llvm_ad_rgb")
    return mi


def _bitmap(array):
    array = np.ascontiguousarray(array, np.float32)
    return mitsuba().Bitmap(array if array.ndim == 3 else array[..., None])


def _texture(array):
    return {"type": "bitmap", "bitmap": _bitmap(array), "raw": True, "wrap_mode": "repeat"}


def _attribute(name):
    return {"type": "mesh_attribute", "name": name}


def textured_material(surface: Surface, **options) -> dict:
    """Mitsuba's principled material from textures; `options` are further scalars of it."""
    return {
        "type": "principled",
        "base_color": _texture(surface.colour),
        "metallic": _texture(surface.metallic),
        "roughness": _texture(surface.roughness),
        **options,
    }


def vertex_material(twosided: bool = False, **options) -> dict:
    """The same from a mesh's own colour, metallic and roughness per vertex.

    Args:
        twosided: the back of a face looks as its front does; else it is black.
    """
    material = {
        "type": "principled",
        "base_color": _attribute("vertex_colour"),
        "metallic": _attribute("vertex_metallic"),
        "roughness": _attribute("vertex_roughness"),
        **options,
    }
    return {"type": "twosided", "bsdf": material} if twosided else material


def _shape(mesh: Mesh, material: dict):
    mi = mitsuba()
    properties = mi.Properties()
    properties["material"] = mi.load_dict(material)
    shape = mi.Mesh(
        "shape",
        len(mesh.vertices),
        len(mesh.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=mesh.uv is not None,
        props=properties,
    )
    parameters = mi.traverse(shape)
    fields = {"vertex_positions": mesh.vertices, "vertex_normals": mesh.normals}
    if mesh.uv is not None:
        fields["vertex_texcoords"] = mesh.uv
    fields["faces"] = mesh.faces
    for name, values in fields.items():
        parameters[name] = type(parameters[name])(np.ascontiguousarray(values).ravel())
    parameters.update()
    if mesh.colour is not None:
        # Lists: what lies on a GPU would be fetched number by number.
        shape.add_attribute("vertex_colour", 3, mesh.colour.ravel().tolist())
        shape.add_attribute("vertex_metallic", 1, mesh.metallic.tolist())
        shape.add_attribute("vertex_roughness", 1, mesh.roughness.tolist())
    return shape


class Stage:
    """Shapes that can be rendered under one light after another.

    Args:
        shapes: pairs of a Mesh and its material (textured_material or vertex_material).
        max_depth: longest light path.
    """

    def __init__(self, shapes: list[tuple[Mesh, dict]], max_depth: int = 6):
        self._shapes = [_shape(mesh, material) for mesh, material in shapes]
        self._max_depth = max_depth
        self._light, self._scene = None, None

    def relight(self, light: Light) -> None:
        """Put the shapes under `light`."""
        if light != self._light:
            self.surround(environment_map(light))
            self._light = light

    def surround(self, radiance: np.ndarray) -> None:
        """Put the shapes under a map as `environment_map` gives it; all of one size.

        One scene is kept and its map overwritten: Mitsuba compiles a kernel anew (seconds)
        whenever the number of scenes alive changes.
        """
        mi = mitsuba()
        self._light = None
        if self._scene is None:
            # Mitsuba's maps have y up and start behind the camera: turn ours to match.
            turn = np.array([[0, 0, -1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
            scene = {f"shape_{i}": shape for i, shape in enumerate(self._shapes)}
            scene["type"] = "scene"
            scene["light"] = {
                "type": "envmap",
                "bitmap": _bitmap(radiance),
                "to_world": mi.ScalarTransform4f(turn),
            }
            self._scene = mi.load_dict(scene)
        else:
            parameters = mi.traverse(self._scene)
            # one column more on each side, for interpolation across the seam
            halo = np.concatenate([radiance[:, -1:], radiance, radiance[:, :1]], 1)
            parameters["light.data"] = mi.TensorXf(np.ascontiguousarray(halo))
            parameters.update()

    def trace(self, camera_to_world, size, samples, seed, fov_x=FOV_X) -> np.ndarray:
        """One view under what the stage was put under, with the paths' noise.

        Args:
            as `render`.
        Returns:
            [H, W, 10] float32: linear RGB, black where nothing is hit; coverage; albedo; normal.
        """
        mi = mitsuba()
        integrator = mi.load_dict(
            {
                "type": "aov",
                "aovs": "albedo:albedo,normal:sh_normal",
                "image": {"type": "path", "max_depth": self._max_depth, "hide_emitters": True},
            }
        )
        sensor = _sensor(camera_to_world, size, fov_x, "rgba")
        image = mi.render(
            self._scene, sensor=sensor, integrator=integrator, spp=samples, seed=_opaque(seed)
        )
        layers = np.nan_to_num(np.array(image)).astype(np.float32)
        layers[..., 3] = layers[..., 3].clip(0, 1)
        return layers

    def render(self, light, camera_to_world, size, samples, seed, fov_x=FOV_X):
        """One view, composited over the light's backdrop and denoised.

        Args:
            light: the Light.
            camera_to_world: [4, 4], OpenGL axes.
            size: height and width in px.
            samples: paths per pixel.
            seed: of the paths.
            fov_x: horizontal field of view in rad.
        Returns:
            Exposed linear RGB [H, W, 3] and albedo [H, W, 3] (1 where nothing is hit).
        """
        self.relight(light)
        layers = self.trace(camera_to_world, size, samples, seed, fov_x)
        alpha = layers[..., 3:4]
        backdrop = np.asarray(light.backdrop, np.float32) / light.exposure
        albedo = (layers[..., 4:7] + (1 - alpha)).clip(0, 1)
        # The denoiser must see the composite: it would smear a hard black edge otherwise.
        rgb = denoised(layers[..., :3] + (1 - alpha) * backdrop, albedo, layers[..., 7:10])
        rgb = np.where(alpha == 0, backdrop, rgb)
        return rgb * light.exposure, albedo

    def hits(self, camera_to_world, size, seed=MASK_SEED, fov_x=FOV_X) -> Hits:
        """What one random ray in each pixel meets first."""
        mi = mitsuba()
        integrator = mi.load_dict({"type": "aov", "aovs": "d:depth,n:sh_normal,a:albedo"})
        sensor = _sensor(camera_to_world, size, fov_x, "rgb")
        if self._scene is None:
            self.relight(LIGHTS["A"])
        image = mi.render(
            self._scene, sensor=sensor, integrator=integrator, spp=1, seed=_opaque(seed)
        )
        layers = np.array(image)
        layers = layers[..., -7:]
        depth = layers[..., 0]
        return Hits(depth > 0, depth, layers[..., 1:4], layers[..., 4:7])

    def places(self, camera_to_world, size, fov_x=FOV_X) -> np.ndarray:
        """Points [N, 3] of the surface that a view shows, one for each pixel that shows any."""
        hits = self.hits(camera_to_world, size, fov_x=fov_x)
        y, x = hits.hit.nonzero()
        height, width = size
        focal = np.full(len(x), width / 2 / np.tan(fov_x / 2))
        rays = np.stack([x + 0.5 - width / 2, height / 2 - y - 0.5, -focal], 1)
        rays = unit(rays) @ np.asarray(camera_to_world)[:3, :3].T
        return camera_to_world[:3, 3] + hits.depth[y, x, None] * rays


def denoised(rgb, albedo, normal):
    """Linear RGB without the paths' noise; all [H, W, 3], of numpy or of torch.

    On the GPU where they are there or Mitsuba's variant traces there: a CPU takes as long to
    denoise a view as to do all else for it.
    """
    import pyoidn

    images = rgb.clip(0), albedo.clip(0, 1), normal.clip(-1, 1)
    if not (isinstance(rgb, np.ndarray) and mitsuba().variant().startswith("cuda")):
        return pyoidn.denoise(*images, hdr=True)
    import torch

    there = (torch.from_numpy(image).cuda() for image in images)
    return pyoidn.denoise(*there, hdr=True).cpu().numpy()


def defect_mask(flawless: Stage, defective: Stage, camera_to_world, size, fov_x, oversampling):
    """Pixels in which the two stages show another surface, [H, W] bool."""
    fine = tuple(n * oversampling for n in size)
    changed = changed_surface(
        flawless.hits(camera_to_world, fine, fov_x=fov_x),
        defective.hits(camera_to_world, fine, fov_x=fov_x),
    )
    return tidy_mask(changed, oversampling)


def _opaque(seed: int):
    """The seed as a variable: as a literal it would make every view compile its own kernel."""
    import drjit

    value = mitsuba().UInt32(seed)
    drjit.make_opaque(value)
    return value


def _sensor(camera_to_world, size, fov_x, pixel_format):
    mi = mitsuba()
    pose = np.array(camera_to_world, float)
    pose[:3, 0] *= -1  # Mitsuba's cameras have x to the left and look along +z
    pose[:3, 2] *= -1
    height, width = size
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": float(np.degrees(fov_x)),
            "fov_axis": "x",
            "near_clip": 0.05,
            "far_clip": 100.0,
            "to_world": mi.ScalarTransform4f(pose),
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "pixel_format": pixel_format,
                "rfilter": {"type": "box"},  # the denoiser wants uncorrelated pixels
                "sample_border": False,
            },
            "sampler": {"type": "independent"},
        }
    )
