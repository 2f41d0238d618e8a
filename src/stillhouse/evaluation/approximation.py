"""How closely a model trained on a distilled set does what the same model trained on the real set does.

Nguyen, Chen, Lee (2021), Definitions 2 and 3, for f learned from the real set, g from the distilled one, and test examples
(x, y): weakly, |E loss(f(x), y) - E loss(g(x), y)|; strongly, E loss(f(x), g(x)). A distilled set approximates the real one
up to epsilon where the number is at most epsilon.
"""

import torch

from stillhouse import spaces


def compare(found: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Weak and strong epsilon of scores `found` (n, c) to scores `wanted` (n, c), for labels (n,), over all examples.

    error   the zero-one loss, in percent: strongly, how often the two choose different classes
    square  half the squared distance of scores, to one-hot targets or to each other, summed over classes
    """
    found, wanted = found.to(torch.float64), wanted.to(torch.float64)
    targets = spaces.one_hot(labels, found.shape[1])
    errors = [float((scores.argmax(1) != labels).double().mean()) for scores in (found, wanted)]
    squares = [_square(scores, targets) for scores in (found, wanted)]
    return {
        "weak epsilon (error)": 100 * abs(errors[0] - errors[1]),
        "strong epsilon (error)": 100 * float((found.argmax(1) != wanted.argmax(1)).double().mean()),
        "weak epsilon (square)": abs(squares[0] - squares[1]),
        "strong epsilon (square)": _square(found, wanted),
    }


def _square(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).square().sum(1).mean()) / 2
