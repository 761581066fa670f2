"""The program from a checkout: the same as the ``bmp`` command of an installed package."""

import sys

from bmp.cli import main

if __name__ == "__main__":
    sys.exit(main())
