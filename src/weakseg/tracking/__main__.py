"""The background sender of one workspace: ``python -m weakseg.tracking ROOT``."""

import sys
from pathlib import Path

from weakseg.tracking.sender import serve

serve(Path(sys.argv[1]))
