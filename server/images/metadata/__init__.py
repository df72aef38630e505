"""What goes with an image's pixels: read from what was sent, put right, written into what is returned."""
