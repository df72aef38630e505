"""What `make demo` runs: export the zoo, serve it, request images."""
