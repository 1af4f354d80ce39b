"""``python -m rltrain``."""

import sys

from rltrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
