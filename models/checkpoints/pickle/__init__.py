"""Reading pickles without running what they carry."""
