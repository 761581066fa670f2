"""``python -m bmp``: the command ``bmp``, also where the folder of the environment's programs is not on the path."""

import sys

from bmp.cli import main

if __name__ == "__main__":
    sys.exit(main())
