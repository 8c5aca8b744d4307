"""python -m pygrad."""

import sys

from pygrad._cli.cli import main

sys.exit(main())
