"""Run the shop, then the comparison; everything happens in a temporary folder."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from demo.compare import compare
from demo.story import tell
from demo.watch import console
from sojourn.kernel import COMPILED


def main() -> int:
    """Tell the story; `--story` leaves the comparison out."""
    begin = time.monotonic()
    console.print(f"[bold]sojourn[/bold], {'compiled' if COMPILED else 'uncompiled'} kernel, embedded SQLite")
    with tempfile.TemporaryDirectory(prefix="sojourn-demo-") as folder:
        tell(Path(folder) / "shop.db")
    if "--story" not in sys.argv:
        console.print()
        console.rule("[bold]The same work elsewhere[/bold]", align="left", style="green")
        compare(console, COMPILED)
    console.print(f"\nDone in {time.monotonic() - begin:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
