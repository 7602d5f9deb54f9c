"""Generator of the example data; run its scripts as `python -m data.make.make_spring`."""
