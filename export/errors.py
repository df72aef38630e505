"""What export refuses, as one line: what was found, what was expected, what to try."""


class ExportError(Exception):
    """Nothing was written; the command prints the text and exits with code 2."""
