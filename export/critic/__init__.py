"""The discriminator beside a generator: found, compared with PyTorch, and measured on the generator's own images."""
