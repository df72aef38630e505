"""Engine limit, closed-loop load and overload on a CPU."""
