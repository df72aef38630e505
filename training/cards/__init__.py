"""One model card per recipe."""
