"""Files in, files out: what `ganserve upscale` and `translate` read, in which order, and where the results go."""
