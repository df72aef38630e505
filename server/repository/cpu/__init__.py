"""Which engine runs a graph on the CPU: candidates compared, measured, chosen, and the choice kept."""
