"""What scores are worth: accuracy where a set has classes, errors in the units of the data where it has values."""

import torch

from stillhouse.evaluation import regression
from stillhouse.sets import RealSet


def of(scores: torch.Tensor, targets: torch.Tensor, real: RealSet) -> dict[str, float]:
    """Of scores (b, width) for test targets as they are in real's split: test accuracy in percent, or test RMSE and R^2."""
    if real.regression:
        return regression.compare(real.target_space.inverse(scores.to(torch.float64)), targets)
    return {"test accuracy": 100 * real.merit(scores, targets) / len(targets)}
