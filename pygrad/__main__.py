"""python -m pygrad."""

import sys

from pygrad.cli import main

sys.exit(main())
