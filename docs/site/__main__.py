"""``python -m docs.site [FOLDER]``: builds the site into a folder, ``build/docs`` unless another is named."""

import sys
from pathlib import Path

from docs.site import ROOT
from docs.site.build import SiteError, build

if __name__ == "__main__":
    try:
        start = build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs")
    except SiteError as error:
        sys.exit(f"The documentation has mistakes.\n{error}")
    print(f"The site is in {start.parent}. Open {start}")
