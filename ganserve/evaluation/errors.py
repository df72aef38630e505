"""What can be wrong with an evaluation."""


class EvaluationError(ValueError):
    """It cannot be made as asked; the message is one line."""
