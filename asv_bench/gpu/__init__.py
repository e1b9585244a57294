"""Everything that a GPU has to show, by one command: `make gpu`, or `python -m asv_bench.gpu`."""
