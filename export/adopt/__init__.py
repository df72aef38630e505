"""Somebody's ONNX graph -> a version that is served like our own: read as data, probed, wrapped, compared."""
