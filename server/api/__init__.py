"""The only part of the server that knows gRPC, protobuf and HTTP."""
