"""The judge beside a generator: the network that says what its images show, found, brought to its pixels, run."""
