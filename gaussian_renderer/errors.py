"""Errors whose text is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend: bad input, missing file, unknown key.

    The text is one line: the rule, the value found, the file, the next step. Entry scripts print
    it as ``error: <text>`` and exit with code 2; any other exception is a bug of ours and keeps
    its traceback.
    """
