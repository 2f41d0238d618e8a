"""Linear algebra that exact methods share, in float64: moments in one pass, the whole ridge path from one eigendecomposition,
pseudo-inverses that report how well they are determined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from stillhouse.errors import NumericalError

# Blocks per side of a symmetric update: 8 x 8 blocks of which the upper 36 are computed cost 56 % of the full product.
_BLOCKS = 8
# A pseudo-inverse from a triangular factor loses cond * eps; beyond this bound the singular values decide the rank.
_CONDITION_LIMIT = 1e8
# Cholesky factorisations of A^T A see the square: beyond this condition number of A nothing can be refined from them.
_CHOLESKY_LIMIT = 1e6
_REFINEMENTS = 2


class Moments:
    """Gram matrix F^T F (p, p) and cross-moments F^T Y (p, c) of features F (n, p) and targets Y (n, c), chunk by chunk.

    Sums, not means, in float64. Memory is p x p whatever n is. Only the upper block triangle is kept until `gram` is asked for.
    """

    def __init__(self, features: int, targets: int, device: torch.device | None = None) -> None:
        self._gram = torch.zeros(features, features, dtype=torch.float64, device=device)
        self.cross = torch.zeros(features, targets, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a chunk: features (b, p), targets (b, c)."""
        rows = features.to(torch.float64)
        add_gram(self._gram, rows)
        self.cross.addmm_(rows.T, targets.to(torch.float64))
        self.count += len(rows)

    @property
    def gram(self) -> torch.Tensor:
        """F^T F, (p, p), symmetric."""
        upper = self._gram.triu()
        return upper + upper.triu(1).T

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of examples."""
        return Moments._of(self._gram + other._gram, self.cross + other.cross, self.count + other.count)

    def __sub__(self, other: Moments) -> Moments:
        """The moments of the examples that are left when `other`'s are taken out.

        Rounding is relative to what was there before: G_left is wrong by about eps |G|, so digits go as |G| / |G_left| grows.
        """
        return Moments._of(self._gram - other._gram, self.cross - other.cross, self.count - other.count)

    def packed(self) -> torch.Tensor:
        """The upper triangle of F^T F, row by row, (p (p + 1) / 2,)."""
        return self._gram[_upper(self._gram)]

    @classmethod
    def unpacked(cls, packed: torch.Tensor, cross: torch.Tensor, count: int) -> Moments:
        """From what `packed` gave, F^T Y (p, c) and the number of examples."""
        gram = torch.zeros(len(cross), len(cross), dtype=torch.float64, device=packed.device)
        gram[_upper(gram)] = packed
        return cls._of(gram, cross, count)

    @classmethod
    def _of(cls, upper: torch.Tensor, cross: torch.Tensor, count: int) -> Moments:
        made = cls(0, 0, upper.device)
        made._gram, made.cross, made.count = upper, cross, count
        return made


def _upper(matrix: torch.Tensor) -> torch.Tensor:
    """Where the upper triangle of a square matrix is, its diagonal included."""
    return torch.ones_like(matrix, dtype=torch.bool).triu()


def add_gram(gram: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows^T rows to the upper triangle of `gram`, in place; below the diagonal blocks nothing is written."""
    width = -(-gram.shape[0] // _BLOCKS)
    for start in range(0, gram.shape[0], width):
        block = slice(start, start + width)
        gram[block, start:].addmm_(rows[:, block].T, rows[:, start:])


@dataclass(frozen=True)
class RidgePath:
    """Ridge solutions for every ridge, from one eigendecomposition F^T F = V diag(s) V^T of features F (n, p).

    values   s, (r,), ascending
    vectors  V, (p, r)
    rotated  V^T F^T Y, (r, c)
    """

    values: torch.Tensor
    vectors: torch.Tensor
    rotated: torch.Tensor

    @classmethod
    def of_moments(cls, gram: torch.Tensor, cross: torch.Tensor) -> RidgePath:
        """From F^T F (p, p) and F^T Y (p, c)."""
        values, vectors = _spectrum(gram)
        return cls(values, vectors, vectors.T @ cross)

    @classmethod
    def of_rows(cls, rows: torch.Tensor, targets: torch.Tensor) -> RidgePath:
        """From the features (m, p) and targets (m, c) themselves, at the cost of the smaller side."""
        if len(rows) >= rows.shape[1]:
            return cls.of_moments(rows.T @ rows, rows.T @ targets)
        values, left = _spectrum(rows @ rows.T)
        kept = values > _floor(values)
        values, left = values[kept], left[:, kept]
        return cls(values, rows.T @ (left / values.sqrt()), values.sqrt()[:, None] * (left.T @ targets))

    @classmethod
    def by_singular_values(cls, rows: torch.Tensor, targets: torch.Tensor) -> RidgePath:
        """The same of few rows, from the singular values of F: eigenvalues of F^T F, their squares, do for most sets, but of rows
        that stand for the whole spectrum of the data they would lose half of the digits of its lower end.
        """
        left, values, right = torch.linalg.svd(rows, full_matrices=False)
        rotated = values[:, None] * (left.T @ targets)
        return cls(values.flip(0).square(), right.T.flip(1), rotated.flip(0))

    def weights(self, ridge: float) -> torch.Tensor:
        """(p, c) = (F^T F + ridge I)^-1 F^T Y for ridge > 0, or the least-norm solution for ridge = 0."""
        return self.vectors @ (self._filter(ridge)[:, None] * self.rotated)

    def predictions(self, features: torch.Tensor, ridges: Iterable[float]) -> Iterator[torch.Tensor]:
        """Features (b, p) @ weights(ridge) for every ridge, sharing the one product that costs; each (b, c)."""
        turned = features @ self.vectors
        for ridge in ridges:
            yield turned @ (self._filter(ridge)[:, None] * self.rotated)

    def rank(self) -> int:
        """Numerical rank of F^T F: eigenvalues above p eps times the largest."""
        return int((self.values > _floor(self.values)).sum())

    def _filter(self, ridge: float) -> torch.Tensor:
        if ridge > 0:
            return 1 / (self.values + ridge)
        return torch.where(self.values > _floor(self.values), 1 / self.values, torch.zeros_like(self.values))


def _spectrum(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if not bool(torch.isfinite(gram).all()):
        raise NumericalError(f"{int((~torch.isfinite(gram)).sum())} entries of the Gram matrix are NaN or infinite")
    values, vectors = torch.linalg.eigh(gram)
    return values.clamp(min=0), vectors  # rounding makes zero eigenvalues slightly negative


def _floor(values: torch.Tensor) -> float:
    return float(values[-1]) * len(values) * torch.finfo(values.dtype).eps


@dataclass(frozen=True)
class PseudoInverse:
    """A^+ with what it rests on: the numerical rank of A, and an upper bound on (or the value of) its condition number."""

    value: torch.Tensor
    rank: int
    condition: float


def pseudo_inverse(matrix: torch.Tensor) -> PseudoInverse:
    """A^+ (b, a) of A (a, b) in float64.

    From two Cholesky factorisations of Gram matrices where A has full rank and is well conditioned, from a QR factorisation
    where it is less so, from the singular values above max(a, b) eps sigma_1 otherwise: each costs several times the one before.
    """
    if matrix.shape[0] < matrix.shape[1]:
        turned = pseudo_inverse(matrix.T)
        return PseudoInverse(turned.value.T, turned.rank, turned.condition)
    found = _by_cholesky(matrix) or _by_qr(matrix)
    return found or _by_singular_values(matrix)


def _by_cholesky(matrix: torch.Tensor) -> PseudoInverse | None:
    """With A^T A = L L^T, Q = A L^-T and L^-T (Q^T Q)^-1 Q^T: the second factorisation takes back what the first loses
    (Yamamoto et al. 2015). None where too much is lost.
    """
    found = _cholesky(_gram(matrix))
    if found is None or not found[1] < _CHOLESKY_LIMIT:
        return None
    factor, condition = found
    basis = torch.linalg.solve_triangular(factor, matrix.T, upper=False)  # Q^T
    again = torch.cholesky_solve(basis, torch.linalg.cholesky(_gram(basis.T)))
    return PseudoInverse(torch.linalg.solve_triangular(factor.T, again, upper=True), matrix.shape[1], condition)


def _by_qr(matrix: torch.Tensor) -> PseudoInverse | None:
    orthogonal, triangle = torch.linalg.qr(matrix)
    if bool((triangle.diagonal() == 0).any()):
        return None
    inverse = torch.linalg.solve_triangular(triangle, _eye(matrix), upper=True)
    # |R|_F |R^-1|_F bounds the condition number from above, by no more than a factor of b.
    condition = float(triangle.norm() * inverse.norm())
    if not condition < _CONDITION_LIMIT:
        return None
    return PseudoInverse(inverse @ orthogonal.T, matrix.shape[1], condition)


def _cholesky(system: torch.Tensor) -> tuple[torch.Tensor, float] | None:
    """L with A = L L^T, and |L|_F |L^-1|_F, an upper bound on the square root of A's condition number; None for a singular A."""
    factor, failed = torch.linalg.cholesky_ex(system)
    if int(failed):
        return None
    inverse = torch.linalg.solve_triangular(factor, _eye(system), upper=False)
    return factor, float(factor.norm() * inverse.norm())


def _gram(rows: torch.Tensor) -> torch.Tensor:
    upper = torch.zeros(rows.shape[1], rows.shape[1], dtype=rows.dtype, device=rows.device)
    add_gram(upper, rows)
    upper = upper.triu()
    return upper + upper.triu(1).T


def ridge_solve(matrix: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    """(A^T A + ridge I)^-1 A^T Y (b, c) of A (a, b) and Y (a, c) in float64; A^+ Y for ridge 0.

    For few targets, without A^+: one Cholesky factorisation on the smaller side and two steps of refinement, whose residual is
    that of Y and not of the normal equations. Falls back on `ridge_pseudo_inverse` where A is ill conditioned.
    """
    tall = matrix.shape[0] >= matrix.shape[1]
    system = _gram(matrix) if tall else _gram(matrix.T)
    system.diagonal().add_(ridge)
    found = _cholesky(system)
    if found is None or not found[1] < _CHOLESKY_LIMIT:
        return ridge_pseudo_inverse(matrix, ridge) @ targets
    solved = torch.cholesky_solve(matrix.T @ targets if tall else targets, found[0])
    for _ in range(_REFINEMENTS):
        weights = solved if tall else matrix.T @ solved
        residual = targets - matrix @ weights
        right = matrix.T @ residual - ridge * solved if tall else residual - ridge * solved
        solved = solved + torch.cholesky_solve(right, found[0])
    return solved if tall else matrix.T @ solved


def ridge_pseudo_inverse(matrix: torch.Tensor, ridge: float) -> torch.Tensor:
    """(A^T A + ridge I)^-1 A^T (b, a) of A (a, b) in float64; A^+ for ridge 0.

    For A of full rank from A^T A + ridge I or from I + ridge (A^T A)^-1, whichever is better conditioned: that one's condition
    number is at most about that of A, while the first alone has its square for a small ridge. From singular values otherwise.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return ridge_pseudo_inverse(matrix.T, ridge).T
    inverse = pseudo_inverse(matrix)
    if ridge == 0:
        return inverse.value
    if inverse.rank < matrix.shape[1] or not inverse.condition < _CONDITION_LIMIT:
        return _by_singular_values(matrix, ridge).value
    direct = float(matrix.square().sum()) < ridge**2 * float(inverse.value.square().sum())
    system, right = (matrix.T @ matrix, matrix.T) if direct else (inverse.value @ inverse.value.T, inverse.value)
    system = system + ridge * _eye(matrix) if direct else ridge * system + _eye(matrix)
    return torch.cholesky_solve(right, torch.linalg.cholesky(system))


def _eye(matrix: torch.Tensor) -> torch.Tensor:
    return torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)


def _by_singular_values(matrix: torch.Tensor, ridge: float = 0.0) -> PseudoInverse:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    floor = float(values[0]) * max(matrix.shape) * torch.finfo(matrix.dtype).eps
    rank = int((values > floor).sum())
    if rank == 0:
        return PseudoInverse(torch.zeros_like(matrix.T), 0, float("inf"))
    kept = slice(0, rank)
    value = right[kept].T @ (left[:, kept] * (values / (values**2 + ridge))[kept]).T
    return PseudoInverse(value, rank, float(values[0] / values[rank - 1]))


class RowSystem:
    """X A = B for one A (d, p) of rank p <= d and many B (m, p), in float64: the X of least norm, B A^+.

    One factorisation, LU for d = p and else A = QR with X = B R^-1 Q^T, and one step of refinement. Without refinement the
    residual of a 3072 x 3072 random system is some 70 times what rounding X alone makes it.
    """

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix
        self._square = matrix.shape[0] == matrix.shape[1]
        self._factors = torch.linalg.lu_factor(matrix) if self._square else torch.linalg.qr(matrix)

    def solve(self, right: torch.Tensor) -> torch.Tensor:
        """X (m, d)."""
        one, other = (part.to(right.device) for part in self._factors)

        def back(rows: torch.Tensor) -> torch.Tensor:
            if self._square:
                solved: torch.Tensor = torch.linalg.lu_solve(one, other, rows, left=False)
            else:
                solved = torch.linalg.solve_triangular(other, rows, upper=True, left=False) @ one.T
            return solved

        found = back(right)
        return found + back(right - found @ self._matrix.to(right.device))


def solve_positive(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A^+ B for a symmetric positive semi-definite A (a, a): by Cholesky, or by eigenvalues where A is singular."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        return torch.cholesky_solve(right, factor)
    return RidgePath.of_moments(matrix, right).weights(0.0)


@dataclass(frozen=True)
class Cholesky:
    """L (a, a), lower, with L L^T = A + jitter I; 0 where A needed none."""

    factor: torch.Tensor
    jitter: float

    def solve(self, right: torch.Tensor) -> torch.Tensor:
        """(A + jitter I)^-1 B for B (a, b)."""
        return torch.cholesky_solve(right, self.factor)


def jittered_cholesky(matrix: torch.Tensor) -> Cholesky:
    """The Cholesky factor of a symmetric A (a, a) that rounding may have made slightly indefinite.

    Jitter starts at eps times A's mean diagonal entry and grows tenfold until the factorisation ends. Raises NumericalError
    for an A with entries that are no numbers, and beyond sqrt(eps), where A is not positive up to rounding.
    """
    scale, limit = float(matrix.diagonal().mean()), torch.finfo(matrix.dtype).eps ** 0.5
    if not bool(matrix.isfinite().all()):
        raise NumericalError(f"{int((~matrix.isfinite()).sum())} entries of a kernel matrix are NaN or infinite")
    relative = 0.0
    while relative <= limit:
        shifted = matrix if relative == 0 else matrix + relative * scale * _eye(matrix)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not int(failed):
            return Cholesky(factor, relative * scale)
        relative = max(10 * relative, torch.finfo(matrix.dtype).eps)
    raise NumericalError(
        f"a kernel matrix of {len(matrix)} examples is not positive: its Cholesky factorisation fails with {limit:.0e} of its "
        f"mean diagonal entry {scale:.3g} added; raise the ridge"
    )


def condition(matrix: torch.Tensor) -> float:
    """Largest over smallest eigenvalue of a symmetric matrix; infinite where rounding makes the smallest 0 or less."""
    values = torch.linalg.eigvalsh(matrix)
    return float(values[-1] / values[0]) if float(values[0]) > 0 else float("inf")


def rank(matrix: torch.Tensor) -> int:
    """Numerical rank in float64: singular values above max(shape) eps times the largest."""
    return int(torch.linalg.matrix_rank(matrix.to(torch.float64)))


def largest_singular_value(matrix: torch.Tensor, steps: int = 200, tolerance: float = 1e-6) -> float:
    """sigma_1 by power iteration from the longest row: approached from below, until a step changes it by less than
    `tolerance`, relatively.
    """
    start = matrix[matrix.norm(dim=1).argmax()]
    return operator_norm(lambda vector: matrix.T @ (matrix @ vector), start, steps, tolerance)


def operator_norm(
    gram: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, steps: int = 200, tolerance: float = 1e-6
) -> float:
    """sigma_1 of a map A that is known by v -> A^T A v, by power iteration from `start`, as above."""
    vector, found = start, 0.0
    for _ in range(steps):
        vector = gram(vector / vector.norm())
        before, found = found, float(vector.norm().sqrt())
        if found - before < tolerance * found:
            break
    return found


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """|found - wanted|_F / |wanted|_F."""
    return float((found - wanted).norm() / wanted.norm())


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Cosine of the angle between two tensors taken as vectors."""
    return float((one.flatten() @ other.flatten()) / (one.norm() * other.norm()))
