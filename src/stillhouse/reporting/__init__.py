"""From rows of scores to the papers' tables and figures, beside what the papers published, on one page."""
