"""Errors of the matchers."""


class CheckpointError(ValueError):
    """A weights file that is missing or foreign; the text names the file and the next step."""
