"""Errors planted in the code, and what rejects each: `python -m tests.plants`."""
