"""One graph on one device. Engines know neither asyncio nor grpc."""
