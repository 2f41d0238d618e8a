"""Fetch, decode, check and save a real data set."""

import json
from pathlib import Path
from typing import Any

from stillhouse import data
from stillhouse.run import Run


def prepare(settings: dict[str, Any], name: str, downloads: Path, run: Run, out: Path) -> None:
    """Prepare the data set of these settings (with `kind`) under `name`; what is fetched stays in `downloads`."""
    kind = str(settings["kind"])
    real = data.prepare(kind, {k: v for k, v in settings.items() if k != "kind"}, downloads, out, name)
    counts = {"train": len(real.train), "test": len(real.test), "shape": list(real.shape)}
    counts |= {"outputs": list(real.outputs)} if real.regression else {"classes": real.n_classes}
    run.log.info("%s: %s, fingerprint %s, order %s", name, json.dumps(counts), real.fingerprint[:16], real.order[:16])
