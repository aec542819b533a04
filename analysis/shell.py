"""The script behind every page: the navigation, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from analysis.ui import nav  # noqa: E402  the import needs the line above

nav.navigate().run()
