"""Generated stubs of the image API, proto package ganserve.v1; `python -m protos` regenerates them."""
