"""Films: frames through the server and back, everything else copied. Needs PyAV, the extra `video`."""
