"""What changes in the course of a fit, as functions of the step."""

from __future__ import annotations

from gaussian_renderer.fit_config import FitConfig


def base_rates(
    config: FitConfig, extent: float, frozen: bool, learn_background: bool
) -> dict[str, float]:
    """Learning rates at the first step, by the names that GaussianOptimiser takes.

    Args:
        extent: the scene's size, world units.
        frozen: colours only.
    """
    rates = {"sh_constant": config.lr_sh, "sh_higher": config.lr_sh_higher}
    if not frozen:
        rates |= {
            "means": config.lr_means * extent,
            "quats": config.lr_quats,
            "log_scales": config.lr_scales,
            "logit_opacities": config.lr_opacities,
        }
    if learn_background:
        rates["background"] = config.lr_background
    return rates


def photo_factor(config: FitConfig, step: int, num_steps: int) -> int:
    """How much smaller the photos are: coarse_factor, its half, ... in equal parts, then 1."""
    coarse_steps = config.coarse_share * num_steps
    levels = max(0, config.coarse_factor.bit_length() - 1)
    if not levels or step >= coarse_steps:
        return 1
    return max(1, config.coarse_factor >> int(step * levels / coarse_steps))


def rate_factors(config: FitConfig, names, step: int, num_steps: int) -> dict[str, float]:
    """What each of the learning rates `names` is multiplied with: they fall geometrically."""
    progress = step / num_steps
    factors = dict.fromkeys(names, config.lr_final_share**progress)
    factors["means"] = (config.lr_means_final / config.lr_means) ** progress
    return factors


def budget(config: FitConfig, first_count: int, step: int) -> int | None:
    """Gaussians not to exceed at this density control: evenly from `first_count` to the budget."""
    if not config.max_gaussians:
        return None
    span = max(1, config.densify_until - config.densify_every)
    share = min(1.0, step / span)
    return round(first_count + share * (config.max_gaussians - first_count))
