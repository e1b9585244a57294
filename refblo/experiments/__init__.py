"""The papers' tables and figures, run again: one experiment a file, found through `registry`."""
