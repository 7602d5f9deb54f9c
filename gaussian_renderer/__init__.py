"""A set of Gaussians and a camera become an image."""
