"""Directions in a generator's latent space: found in the served graph or its weights, or read from users' files."""
