"""How good generated images are, beside those they should be like: distances, precision, recall, diversity, copies."""
