"""Load on a server over gRPC, as cheap for the caller as can be."""
