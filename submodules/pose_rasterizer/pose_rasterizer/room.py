"""How much room the CUDA back end's tile lists need; csrc/torch/registry.h has the same rule."""

import torch

MAX_ENTRIES = 2**31 - 2**20
FIRST_ENTRIES_PER_SPLAT = 8  # guess for a shape not seen before
FIRST_ENTRIES = 1 << 18
HEADROOM = 1.3
NUM_SLOTS = 256  # shapes remembered per device


class Capacities:
    """How many list entries to make room for, by shape, from what the device reported before."""

    def __init__(self):
        # Written by the device at any time and only ever a hint, so reading needs no wait.
        self.slots = torch.zeros(NUM_SLOTS, dtype=torch.int64, pin_memory=torch.cuda.is_available())
        self.view = self.slots.numpy()
        self.address = self.slots.data_ptr()
        self.shapes = {}  # shape -> [slot, splats of the call that the slot reports on, peak]

    def choose(self, shape: tuple, num_splats: int, limit: int) -> tuple[int, int]:
        """(entries to make room for, address that receives the entries needed)."""
        known = self.shapes.get(shape)
        if known is None:
            if len(self.shapes) == NUM_SLOTS:
                self.shapes.clear()
            known = self.shapes[shape] = [len(self.shapes), num_splats, 0.0]
            self.view[known[0]] = 0
        slot, last_splats, peak = known
        seen = self.view.item(slot)
        if seen > 0 and last_splats > 0:
            peak = max(seen / last_splats, 0.98 * peak)
            known[2] = peak
        known[1] = num_splats
        if peak > 0:
            wanted = int(HEADROOM * peak * num_splats)
        else:
            wanted = FIRST_ENTRIES_PER_SPLAT * num_splats + FIRST_ENTRIES
        step = max(1 << 12, 1 << max(wanted.bit_length() - 4, 0))  # stable sizes suit the allocator
        wanted = (wanted // step + 1) * step
        return min(wanted, limit, MAX_ENTRIES), self.address + 8 * slot
