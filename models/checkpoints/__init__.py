"""Reads what training repositories leave on disk, without running what it carries."""
