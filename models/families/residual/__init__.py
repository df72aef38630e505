"""Residual generators: SNGAN, SAGAN, BigGAN and BigGAN-deep, in their repositories and in StudioGAN."""
