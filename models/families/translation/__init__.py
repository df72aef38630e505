"""Image-to-image: pix2pix, CycleGAN, CUT, pix2pixHD."""
