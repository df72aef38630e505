"""From validated arrays to encoded images. No grpc, no protobuf."""
