"""The generators' architectures by kind, one file for each with its parts next to it."""
