"""A real Prometheus over a real server, and the dashboard drawn from what it scraped."""
