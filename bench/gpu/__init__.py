"""Parity and speed of every engine on a GPU, and of the server over them."""
