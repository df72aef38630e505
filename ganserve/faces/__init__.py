"""Faces in photographs: found, aligned, restored by a served model, and put back."""
