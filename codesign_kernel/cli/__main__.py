"""``python -m codesign_kernel.cli`` is ``codesign``."""

import sys

from codesign_kernel.cli import main

sys.exit(main())
