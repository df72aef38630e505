"""Generators: their architectures in torch, the checkpoints of training repositories, and the zoo of trained ones."""
