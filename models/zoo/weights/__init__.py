"""The zoo's own weights, NAME.safetensors. Not in ganserve's wheel: installed as the package `ganserve_zoo_weights`."""
