"""The border between export and server: what an exported model is on disk. Standard library and numpy only."""
