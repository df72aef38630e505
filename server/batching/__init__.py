"""Many requests, one model: the queue, its batches, and the devices that run them."""
