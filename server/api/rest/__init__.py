"""HTTP/REST beside gRPC: JSON and image bytes -> the messages of the gRPC services -> JSON and image bytes.

The same servicers answer both, so limits, keys, quotas, statistics, logs and traces are the same.
"""
