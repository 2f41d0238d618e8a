"""What a transfer table says: how sets made for one model do with others, beside random real images."""

from __future__ import annotations

import pandas as pd

from stillhouse.reporting.study import Layout

KEYS = ["dataset", "per_class", "protocol", "model"]


def gains(tidy: pd.DataFrame) -> pd.DataFrame:
    """Every distilled set's mean test accuracy minus that of random real images of the same number, by the same model."""
    accuracy = tidy[(tidy["metric"] == "test accuracy") & tidy["per_class"].notna()]
    random = accuracy[accuracy["method"] == "random_images"].set_index(KEYS)["mean"].rename("random")
    made = accuracy[accuracy["method"] != "random_images"].join(random, on=KEYS)
    return made.assign(gain=made["mean"] - made["random"])


def findings(layout: Layout, tidy: pd.DataFrame) -> list[str]:
    """Per model that scores: in how many cells distilled sets beat random real images, and the best and the worst."""
    made = gains(tidy)
    said = []
    for model, cells in made.groupby("model", sort=False):
        best, worst = (cells.iloc[int(place)] for place in (cells["gain"].argmax(), cells["gain"].argmin()))
        said.append(
            f"{layout.labels[str(model)]}: {int((cells['gain'] > 0).sum())} of {len(cells)} distilled sets beat as many "
            "random real "
            f"images. Best {_cell(layout, best)}; worst {_cell(layout, worst)}."
        )
    return said


def _cell(layout: Layout, row: pd.Series) -> str:
    made = layout.labels[str(row["experiment"])]
    return f"{row['gain']:+.1f} points ({made}, {row['dataset']}, {row['per_class']} per class)".replace("-", "−")
