"""The feature network, and the place where its weights (and init_low.pth) are looked for."""
