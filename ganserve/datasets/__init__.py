"""Data sets of generated images: which images, in what form, in shards that any number of processes make."""
