"""From disk to a model that serves."""
