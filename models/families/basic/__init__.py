"""Generators without a residual trunk: perceptrons, DCGAN and its relatives, LAPGAN, FastGAN, Lightweight GAN."""
