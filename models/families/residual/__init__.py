"""Residual generators: SNGAN, SAGAN, BigGAN, in their repositories."""
