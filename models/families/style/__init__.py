"""StyleGAN2 in its three repositories, and StyleGAN3."""
