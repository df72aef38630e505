"""One file per recipe: networks, learner, and the run that makes the weights."""
