"""A network in the user's own process -> a model repository: traced here, adopted by the `ganserve` command."""
