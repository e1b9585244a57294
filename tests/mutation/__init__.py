"""How many random errors in the source the tests find: `python -m tests.mutation`."""
