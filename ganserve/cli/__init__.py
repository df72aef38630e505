"""The `ganserve` command."""
