"""`python -m refblo` is `refblo`."""

import sys

from refblo.cli import main

if __name__ == "__main__":
    sys.exit(main())
