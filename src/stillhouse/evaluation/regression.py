"""Scores of predicted values, in the units of the data: the root of the mean squared error, and R^2."""

import torch


def compare(found: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
    """RMSE and R^2 of values `found` (n, k) for `wanted` (n, k), each the mean over the k outputs.

    R^2 is 1 - |found - wanted|^2 / |wanted - mean|^2 with the mean of the examples that are scored: at most 1, 0 for that mean
    as the prediction of all, negative for less. It is NaN where an output of all these examples is the same.
    """
    found, wanted = found.to(torch.float64), wanted.to(torch.float64)
    squared = (found - wanted).square().mean(0)
    spread = (wanted - wanted.mean(0)).square().mean(0)
    return {"test RMSE": float(squared.sqrt().mean()), "test R2": float((1 - squared / spread).mean())}
