"""What a generator is: architectures, checkpoints, the zoo, and the torch-free formats that cross to the server."""
