"""Model repository -> answers: gRPC services, batcher, engines, metrics, health."""
