"""What operators see: metrics, logs, traces. Imports nothing of the server but its errors."""
