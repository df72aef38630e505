"""The generators' architectures by kind, one file each with its parts next to it."""
