"""Discriminators, served beside the generators that they were trained against: critics of images."""
