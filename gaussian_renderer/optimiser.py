"""The Gaussians as leaves of Adam: learning rates, and rows that come and go with their moments."""

from __future__ import annotations

import torch
from torch import Tensor

from gaussian_renderer.gaussians import GaussianModel, num_sh_coefficients

GEOMETRY = ("means", "quats", "log_scales", "logit_opacities")
ADAM_EPS = 1e-15  # 3DGS: colour gradients are tiny, the usual 1e-8 would swallow them


class GaussianOptimiser:
    """Parameters of a GaussianModel, one Adam group each.

    The constant SH term and the higher ones are two leaves, since their rates differ.

    Args:
        rates: learning rate by leaf name: means, quats, log_scales, logit_opacities, sh_constant,
            sh_higher, background. Leaves without a rate stay as they are.
    """

    def __init__(self, model: GaussianModel, rates: dict[str, float]) -> None:
        leaves = {k: getattr(model, k) for k in GEOMETRY}
        leaves["sh_constant"] = model.sh[:, :1]
        leaves["sh_higher"] = model.sh[:, 1:]
        leaves["background"] = model.background
        self.leaves = {
            k: v.detach().clone().contiguous().requires_grad_(k in rates) for k, v in leaves.items()
        }
        self.base_rates = dict(rates)
        groups = [{"params": [self.leaves[k]], "lr": lr, "name": k} for k, lr in rates.items()]
        self.adam = torch.optim.Adam(groups, eps=ADAM_EPS, fused=True)
        self.means_of_leaves: dict[str, Tensor] = {}
        self.num_averaged = 0

    @property
    def num_gaussians(self) -> int:
        return self.leaves["means"].shape[0]

    def model(self, sh_degree: int | None = None) -> GaussianModel:
        """The model in the graph of the leaves, with the SH degrees in use."""
        sh, higher = self.leaves["sh_constant"], self.leaves["sh_higher"]
        count = higher.shape[1] if sh_degree is None else num_sh_coefficients(sh_degree) - 1
        if count:
            sh = torch.cat([sh, higher[:, :count]], 1)
        geometry = {k: self.leaves[k] for k in GEOMETRY}
        return GaussianModel(**geometry, sh=sh, background=self.leaves["background"])

    def scale_rates(self, factors: dict[str, float]) -> None:
        """Set each group's rate to its base rate times a factor (1 where not named)."""
        for group in self.adam.param_groups:
            group["lr"] = self.base_rates[group["name"]] * factors.get(group["name"], 1.0)

    def step(self) -> None:
        self.adam.step()
        for leaf in self.leaves.values():
            leaf.grad = None

    @torch.no_grad()
    def average(self) -> None:
        """Add the leaves as they are to their running mean; new or fewer rows begin it anew."""
        self.num_averaged += 1
        for name, leaf in self.leaves.items():
            if self.num_averaged == 1:
                self.means_of_leaves[name] = leaf.detach().clone()
            elif leaf.requires_grad:
                self.means_of_leaves[name].lerp_(leaf, 1 / self.num_averaged)

    def take_average(self) -> None:
        """Make the running mean, if there is one, the leaves' values."""
        if self.num_averaged:
            for name, mean in list(self.means_of_leaves.items()):
                self._replace(name, mean, torch.zeros_like)

    def rows(self) -> dict[str, Tensor]:
        """Every per-Gaussian leaf, outside the graph."""
        return {k: v.detach() for k, v in self.leaves.items() if k != "background"}

    def replace_rows(self, keep: Tensor, extra: dict[str, Tensor] | None = None) -> None:
        """Keep the rows of a boolean mask [N], then append `extra`, whose moments start at 0."""
        for name, old in self.rows().items():
            added = old[:0] if extra is None else extra[name]
            zeros = torch.zeros_like(added)
            self._replace(
                name,
                torch.cat([old[keep], added]),
                lambda moment, zeros=zeros: torch.cat([moment[keep], zeros]),
            )

    def overwrite(self, name: str, values: Tensor) -> None:
        """Set a leaf and forget its moments (3DGS does so at an opacity reset)."""
        self._replace(name, values, torch.zeros_like)

    def _replace(self, name: str, values: Tensor, carry) -> None:
        old = self.leaves[name]
        self.means_of_leaves, self.num_averaged = {}, 0
        leaf = values.detach().clone().requires_grad_(old.requires_grad)
        self.leaves[name] = leaf
        for group in self.adam.param_groups:
            if group["name"] != name:
                continue
            state = self.adam.state.pop(old, None)
            group["params"] = [leaf]
            if state:
                moments = {k: carry(state[k]) for k in ("exp_avg", "exp_avg_sq")}
                self.adam.state[leaf] = {**state, **moments}

    def state(self) -> dict:
        """Leaves and moments, for a checkpoint."""
        moments = {}
        for group in self.adam.param_groups:
            for key, value in self.adam.state.get(group["params"][0], {}).items():
                moments[f"{group['name']}.{key}"] = value.clone()
        return {
            "leaves": {k: v.detach().clone() for k, v in self.leaves.items()},
            "means": {k: v.clone() for k, v in self.means_of_leaves.items()},
            "num_averaged": self.num_averaged,
            "moments": moments,
        }

    def restore(self, state: dict) -> None:
        """Take back what `state` gave."""
        for name, values in state["leaves"].items():
            self._replace(name, values.to(self.leaves[name].device), torch.zeros_like)
        self.num_averaged = state["num_averaged"]
        self.means_of_leaves = {k: v.to(self.leaves[k].device) for k, v in state["means"].items()}
        self.adam.state.clear()
        for key, value in state["moments"].items():
            name, part = key.split(".")
            leaf = self.leaves[name]
            # fused Adam keeps its step counter on the parameter's device
            self.adam.state[leaf][part] = value.to(leaf.device)
