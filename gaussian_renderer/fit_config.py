"""FitConfig: how Gaussian models are fitted; its field names are the config's keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from gaussian_renderer.errors import UserError

BACKGROUNDS = ("auto", "learn", "white", "black", "corner")


def _option(default: object, text: str, **metadata: object):
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class FitConfig:
    """How the Gaussian models are fitted; the defaults suit a CPU of two cores."""

    iterations: int = _option(1600, "steps of the fit, one photo each")
    frozen_iterations: int = _option(500, "steps when only the colours are fitted")
    max_gaussians: int = _option(20000, "number of Gaussians not to exceed by growing; 0 = none")
    initial_points: int = _option(8000, "Gaussians to start with where there is no point cloud")
    initial_opacity: float = _option(0.1, "their opacity, 0..1")
    sh_degree: int = _option(2, "degree of the view dependence of colour, 0..3")
    sh_every: int = _option(200, "steps after which the degree in use rises by one")
    lr_means: float = _option(1.6e-3, "rate of the means, times the scene's extent")
    lr_means_final: float = _option(1.6e-5, "the same at the last step")
    lr_quats: float = _option(4e-3, "rate of the rotations")
    lr_scales: float = _option(2e-2, "rate of the logarithmic scales")
    lr_opacities: float = _option(1e-1, "rate of the opacities before the sigmoid")
    lr_sh: float = _option(1e-2, "rate of the constant colour term")
    lr_sh_higher: float = _option(1e-3, "rate of the view-dependent colour terms")
    lr_background: float = _option(1e-3, "rate of the background's colour, if learnt")
    lr_final_share: float = _option(0.5, "share of every other rate left at the last step")
    average_from: float = _option(
        0.85, "share of the steps after which the model is the mean of those visited; 1 = off"
    )
    ssim_weight: float = _option(0.2, "weight of 1 - SSIM against L1")
    alpha_weight: float = _option(0.5, "weight that holds alpha to a plain backdrop; 0 = off")
    alpha_inside_from: float = _option(
        0.4, "share of the steps after which alpha is held to 1 on the object too"
    )
    fit_background: str = _option("auto", "whence the background's colour", choices=BACKGROUNDS)
    background_from: int = _option(0, "corner: step before which the background is white")
    coarse_factor: int = _option(
        4, "the first steps see photos smaller by this, then by its half and so on; 1 = off"
    )
    coarse_share: float = _option(0.67, "share of the steps on the smaller photos")
    densify_from: int = _option(50, "first step with density control")
    densify_until: int = _option(720, "last step with density control")
    densify_every: int = _option(50, "steps between")
    densify_gradient: float = _option(2e-4, "least view-space gradient that grows a Gaussian")
    prune_opacity: float = _option(0.05, "Gaussians of lower opacity are removed")
    opacity_reset_every: int = _option(0, "steps between opacity resets; 0 = never")
    holdout: int = _option(0, "every k-th photo only measures quality; 0 = fit all")
    check_views: int = _option(
        4, "without holdout: photos kept out until check_until, measured, then fitted; 0 = none"
    )
    check_until: float = _option(0.8, "share of the steps without them")
    plateau_gain: float = _option(0.0, "stop when PSNR gains less, dB; 0 = never")
    plateau_epochs: int = _option(4, "passes over the gallery in which it must gain")
    checkpoint_every: int = _option(250, "steps between checkpoints")


def check_config(config: FitConfig) -> None:
    """Raise UserError for values that no fit takes."""
    if config.fit_background not in BACKGROUNDS:
        raise UserError(
            f"fit_background is one of {', '.join(BACKGROUNDS)}, not {config.fit_background!r}; "
            "mend the config"
        )
    if config.sh_degree not in range(4):
        raise UserError(f"sh_degree is 0..3, not {config.sh_degree}; mend the config")


# The original's training: two such models, no start on the hull, no hold on alpha.
ORIGINAL: dict[str, object] = {
    "iterations": 30000,
    "frozen_iterations": 30000,
    "max_gaussians": 0,
    "initial_points": 100000,
    "initial_opacity": 0.1,
    "sh_degree": 3,
    "sh_every": 1000,
    "lr_means": 1.6e-4,
    "lr_means_final": 1.6e-6,
    "lr_quats": 1e-3,
    "lr_scales": 5e-3,
    "lr_opacities": 5e-2,
    "lr_sh": 2.5e-3,
    "lr_sh_higher": 1.25e-4,
    "lr_final_share": 1.0,
    "average_from": 1.0,
    "alpha_weight": 0.0,
    "fit_background": "corner",
    "background_from": 3000,
    "coarse_factor": 1,
    "densify_from": 500,
    "densify_until": 15000,
    "densify_every": 100,
    "densify_gradient": 2e-4,
    "prune_opacity": 0.005,
    "opacity_reset_every": 3000,
    "holdout": 0,
    "check_views": 0,
    "plateau_gain": 0.0,
}
