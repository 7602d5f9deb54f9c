"""The Gaussians as leaves of Adam: learning rates, and rows that come and go with their moments.

The gradients are by what the rasterizer takes (scales, opacities), not by what is optimised (their
logarithm, their logit): activations are no part of the graph, Adam's step does their chain rule.
"""

from __future__ import annotations

import torch
from pose_rasterizer.adam import AdamLeaf, adam_step
from torch import Tensor

from gaussian_renderer.gaussians import GaussianModel

ACTIVATED = {"log_scales": ("scales", "exp"), "logit_opacities": ("opacities", "sigmoid")}
ADAM_EPS = 1e-15  # 3DGS: colour gradients are tiny, the usual 1e-8 would swallow them


class GaussianOptimiser:
    """Parameters of a GaussianModel and Adam's moments.

    Attributes:
        leaves: the raw parameters by their names in GaussianModel.
        inputs: what the rasterizer takes, leaves of its graph: means, quats, scales, opacities, sh,
            background.

    Args:
        rates: learning rate of means, quats, log_scales, logit_opacities, background, and of the
            sh's constant term (sh_constant) and higher terms (sh_higher). Others stay as they are.
    """

    def __init__(self, model: GaussianModel, rates: dict[str, float]) -> None:
        self.base_rates = dict(rates)
        self.rates = dict(rates)
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.steps: dict[str, int] = {}
        self.means_of_leaves: dict[str, Tensor] = {}
        self.num_averaged = 0
        self.leaves: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        for name, values in model.tensors().items():
            self._place(name, values.detach().clone().contiguous())
            if self._moves(name):
                zeros = torch.zeros_like(self.leaves[name])
                self.moments[name], self.steps[name] = (zeros, zeros.clone()), 0

    def _moves(self, name: str) -> bool:
        return ("sh_constant" if name == "sh" else name) in self.base_rates

    def _place(self, name: str, values: Tensor) -> None:
        """Make `values` the leaf, and what the rasterizer takes of it."""
        self.leaves[name] = values
        known_as, _ = ACTIVATED.get(name, (name, None))
        active = values.detach() if known_as == name else torch.empty_like(values)
        self.inputs[known_as] = active.requires_grad_(self._moves(name))
        self._activate(name)

    def _activate(self, name: str) -> None:
        if name in ACTIVATED:
            known_as, kind = ACTIVATED[name]
            getattr(torch, kind)(self.leaves[name], out=self.inputs[known_as].detach())

    @property
    def num_gaussians(self) -> int:
        return self.leaves["means"].shape[0]

    def model(self) -> GaussianModel:
        """The model as it is, in the leaves' memory, outside any graph."""
        return GaussianModel(**self.leaves)

    def scale_rates(self, factors: dict[str, float]) -> None:
        """Set each rate to its base rate times a factor (1 where not named)."""
        self.rates = {k: lr * factors.get(k, 1.0) for k, lr in self.base_rates.items()}

    def step(self) -> None:
        """Follow the gradients of `inputs`, and forget them; those without one stay."""
        leaves, gradients, names = [], [], []
        for name in self.moments:
            known_as, activation = ACTIVATED.get(name, (name, "identity"))
            active = self.inputs[known_as]
            if active.grad is None:
                continue
            activated = active.detach() if name in ACTIVATED else None
            rate, rest = self.rates.get(name, 0.0), None
            if name == "sh":
                rate, rest = self.rates["sh_constant"], self.rates["sh_higher"]
            leaf = AdamLeaf(
                self.leaves[name], *self.moments[name], self.steps[name], rate, rest, activation,
                activated,
            )  # fmt: skip
            leaves.append(leaf)
            gradients.append(active.grad)
            names.append(name)
        adam_step(leaves, gradients, ADAM_EPS)
        for name, leaf in zip(names, leaves, strict=True):
            self.steps[name] = leaf.steps
            self._activate(name)
        for active in self.inputs.values():
            active.grad = None

    @torch.no_grad()
    def average(self) -> None:
        """Add the leaves as they are to their running mean; new or fewer rows begin it anew."""
        self.num_averaged += 1
        for name, leaf in self.leaves.items():
            if self.num_averaged == 1:
                self.means_of_leaves[name] = leaf.clone()
            elif name in self.moments:
                self.means_of_leaves[name].lerp_(leaf, 1 / self.num_averaged)

    def take_average(self) -> None:
        """Make the running mean, if there is one, the leaves' values."""
        if self.num_averaged:
            for name, mean in list(self.means_of_leaves.items()):
                self.overwrite(name, mean)

    def rows(self) -> dict[str, Tensor]:
        """Every per-Gaussian leaf."""
        return {k: v for k, v in self.leaves.items() if k != "background"}

    def replace_rows(self, keep: Tensor, extra: dict[str, Tensor] | None = None) -> None:
        """Keep the rows of a boolean mask [N], then append `extra`, whose moments start at 0."""
        kept = keep.nonzero()[:, 0]
        self.means_of_leaves, self.num_averaged = {}, 0
        for name, old in self.rows().items():
            added = old[:0] if extra is None else extra[name]
            self._place(name, torch.cat([old[kept], added]))
            if name in self.moments:
                zeros = torch.zeros_like(added)
                first, second = self.moments[name]
                self.moments[name] = (
                    torch.cat([first[kept], zeros]),
                    torch.cat([second[kept], zeros]),
                )

    def overwrite(self, name: str, values: Tensor) -> None:
        """Set a leaf and forget its moments (3DGS does so at an opacity reset)."""
        self.means_of_leaves, self.num_averaged = {}, 0
        self._place(name, values.detach().clone())
        if name in self.moments:
            zeros = torch.zeros_like(values)
            self.moments[name], self.steps[name] = (zeros, zeros.clone()), 0

    def state(self) -> dict:
        """Leaves and moments, for a checkpoint."""
        moments = {}
        for name, (first, second) in self.moments.items():
            moments[f"{name}.first"], moments[f"{name}.second"] = first.clone(), second.clone()
        return {
            "leaves": {k: v.clone() for k, v in self.leaves.items()},
            "means": {k: v.clone() for k, v in self.means_of_leaves.items()},
            "num_averaged": self.num_averaged,
            "moments": moments,
            "steps": dict(self.steps),
        }

    def restore(self, state: dict) -> None:
        """Take back what `state` gave."""
        device = self.leaves["means"].device
        for name, values in state["leaves"].items():
            self._place(name, values.to(device))
        self.num_averaged = state["num_averaged"]
        self.means_of_leaves = {k: v.to(device) for k, v in state["means"].items()}
        self.steps = dict(state["steps"])
        for name in self.moments:
            parts = [state["moments"][f"{name}.{part}"].to(device) for part in ("first", "second")]
            self.moments[name] = parts[0], parts[1]
