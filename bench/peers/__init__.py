"""Other servers beside ours: the same graph, the same callers, one run."""
