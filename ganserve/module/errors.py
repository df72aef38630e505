"""What `export_module` raises."""


class ExportError(ValueError):
    """Nothing was written; one line that says what was found, what was expected and what to try."""
