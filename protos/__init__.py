"""The gRPC image API, `ganserve/v1/images.proto`. `python -m protos` generates its stubs, `ganserve.v1`."""
