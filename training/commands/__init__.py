"""One command per recipe: its options, its data, its training, its card."""
