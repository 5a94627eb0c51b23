"""`python -m slimlib` is the command `slimlib`."""

import sys

from slimlib.cli import main

sys.exit(main())
