import torch

from stillhouse import kernels
from stillhouse.kernels import linear


def test_it_is_the_formula_by_hand() -> None:
    kernel = kernels.build(linear.Params(weight_variance=3.0, bias_variance=0.5), (2,))
    x, y = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[4.0, 5.0]])
    assert kernel(x, y).tolist() == [[3 * 14 / 2 + 0.5], [3 * -5 / 2 + 0.5]]
    torch.testing.assert_close(kernel.gram(x), torch.tensor([[8.0, -2.5], [-2.5, 2.0]]))


def test_ridge_regression_with_it_is_ridge_regression_on_the_inputs() -> None:
    """w = d makes k the inner product: k(x, X) (K + ridge I)^-1 y = x (X^T X + ridge I)^-1 X^T y."""
    rng = torch.Generator().manual_seed(0)
    rows, targets, new = (torch.randn(*size, generator=rng, dtype=torch.float64) for size in ((8, 5), (8, 2), (3, 5)))
    kernel = kernels.build(linear.Params(weight_variance=5.0), (5,))
    dual = kernel(new, rows) @ torch.linalg.solve(kernel.gram(rows) + 0.1 * torch.eye(8), targets)
    primal = new @ torch.linalg.solve(rows.T @ rows + 0.1 * torch.eye(5), rows.T @ targets)
    torch.testing.assert_close(dual, primal)
