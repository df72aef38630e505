"""The gRPC image API: `images.proto` and its generated stubs. Regenerate with `python -m protos`."""
