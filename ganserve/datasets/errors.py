"""What can be wrong with a data set."""


class DataSetError(ValueError):
    """The data set cannot be made as asked; the message is one line."""
