"""How the zoo's small generators were made: losses, one loop, and one file per recipe (`python -m training RECIPE`)."""
