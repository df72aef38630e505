"""How fast the engine can be, how fast the server is, and what becomes of it under twice the load."""
