"""Errors of the package."""


class BuildError(RuntimeError):
    """A back end can't be built; the text says why and what to install."""
