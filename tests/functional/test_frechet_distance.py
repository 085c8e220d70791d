from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffkit.errors import DataError
from diffkit.functional.frechet import frechet_distance

seeds = st.integers(0, 10_000)
sizes = st.integers(1, 8)


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def with_moments(mean: Tensor, root: Tensor, seed: int, n: int = 40) -> Tensor:
    """Features with exactly this mean and the sample covariance `root^T root`."""
    centred = normal(n, root.shape[0], seed=seed)
    white = torch.linalg.qr(centred - centred.mean(0)).Q * (n - 1) ** 0.5
    return mean + white @ root


def covariance_formula(a: Tensor, b: Tensor) -> float:
    """Heusel et al. (2017), eq. 6, as it is usually computed."""
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(np.atleast_2d(cov_a @ cov_b))
    shift = np.square(a.numpy().mean(0) - b.numpy().mean(0)).sum()
    return float(shift + np.trace(np.atleast_2d(cov_a + cov_b) - 2 * root.real))


@settings(deadline=None)
@given(seed=seeds, features=sizes)
def test_closed_form_for_diagonal_covariances(seed, features):
    means, deviations = normal(2, features, seed=seed), normal(2, features, seed=seed + 1).exp()
    a, b = (with_moments(m, d.diag(), seed + 2) for m, d in zip(means, deviations, strict=True))
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    torch.testing.assert_close(frechet_distance(a, b), expected, rtol=1e-10, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(seed=seeds, features=st.integers(2, 8), more=st.integers(2, 30))
def test_agrees_with_the_matrix_square_root(seed, features, more):
    scales = normal(features, seed=seed + 2).exp()
    a = normal(features + more, features, seed=seed) * scales
    b = normal(features + 20, features, seed=seed + 1) @ normal(features, features, seed=seed + 3)
    assert float(frechet_distance(a, b)) == pytest.approx(covariance_formula(a, b), rel=1e-6)


@settings(deadline=None)
@given(seed=seeds, features=sizes, n=st.integers(2, 12), m=st.integers(2, 12))
def test_is_symmetric_non_negative_and_zero_on_itself(seed, features, n, m):
    a, b = normal(n, features, seed=seed), normal(m, features, seed=seed + 1)
    distance = frechet_distance(a, b)
    assert float(distance) >= 0
    torch.testing.assert_close(distance, frechet_distance(b, a), rtol=1e-10, atol=1e-12)
    assert float(frechet_distance(a, a)) == pytest.approx(0, abs=1e-12)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert float(frechet_distance(a, a[order])) == pytest.approx(0, abs=1e-12)


@settings(deadline=None)
@given(seed=seeds, features=sizes)
def test_a_translation_costs_its_squared_length(seed, features):
    a, shift = normal(10, features, seed=seed), normal(features, seed=seed + 1)
    torch.testing.assert_close(frechet_distance(a, a + shift), shift.square().sum())


@settings(deadline=None)
@given(seed=seeds, features=sizes, factor=st.floats(1e-3, 1e3))
def test_scales_as_a_square_and_ignores_rotations_and_common_translations(seed, features, factor):
    a, b = normal(9, features, seed=seed), normal(14, features, seed=seed + 1)
    rotation = torch.linalg.qr(normal(features, features, seed=seed + 2)).Q
    shift = normal(features, seed=seed + 3)
    moved = frechet_distance(factor * a @ rotation + shift, factor * b @ rotation + shift)
    # A factor of 1e-3 under a shift of 1 leaves ten of sixteen digits.
    torch.testing.assert_close(moved, factor**2 * frechet_distance(a, b), rtol=1e-7, atol=1e-14)


@settings(deadline=None)
@given(seed=seeds, features=sizes)
def test_its_root_obeys_the_triangle_inequality(seed, features):
    a, b, c = (normal(7, features, seed=seed + i) * (1 + i) for i in range(3))
    ab, bc, ac = (frechet_distance(*pair).sqrt() for pair in ((a, b), (b, c), (a, c)))
    assert float(ac) <= float(ab + bc) + 1e-9


@pytest.mark.parametrize("n", [2, 3, 5])
def test_singular_covariances_lose_no_accuracy(n):
    # Fewer rows than features. In the span of the rows, where both covariances are regular, the
    # distance is the same; forming the covariances would leave errors of 1e-8.
    features = 30
    basis = torch.linalg.qr(normal(features, n, seed=0)).Q.T
    small_a, small_b = (
        with_moments(torch.zeros(n).double(), d.diag(), 1) for d in normal(2, n, seed=2).exp()
    )
    expected = frechet_distance(small_a, small_b)
    actual = frechet_distance(small_a @ basis, small_b @ basis)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)
    a = normal(n, features, seed=3)
    assert float(frechet_distance(a, a)) == pytest.approx(0, abs=1e-13)


def test_a_point_mass_is_as_far_as_its_shift_and_the_spread_of_the_other():
    b = normal(20, 4, seed=0)
    a = torch.ones(3, 4)
    expected = (b.mean(0) - 1).square().sum() + b.var(0).sum()
    torch.testing.assert_close(frechet_distance(a, b), expected)
    assert float(frechet_distance(a, a)) == 0.0


def test_orthogonal_supports_do_not_overlap():
    a, b = torch.zeros(10, 4), torch.zeros(10, 4)
    a[:, :2], b[:, 2:] = normal(10, 2, seed=0).float(), normal(10, 2, seed=1).float()
    expected = (a.double().mean(0) - b.double().mean(0)).square().sum()
    expected = expected + a.double().var(0).sum() + b.double().var(0).sum()
    torch.testing.assert_close(frechet_distance(a, b), expected, rtol=1e-12, atol=0)


def test_is_computed_in_float64_and_leaves_its_arguments_alone():
    a = (normal(50, 3, seed=0) + 1e4).float().requires_grad_()
    b = (normal(50, 3, seed=1) + 1e4).float()
    before = a.detach().clone()
    distance = frechet_distance(a, b)
    assert distance.dtype == torch.float64
    assert not distance.requires_grad
    assert torch.equal(a, before)
    torch.testing.assert_close(distance, frechet_distance(a.double(), b.double()))


@pytest.mark.wrong_shapes
@pytest.mark.parametrize(
    ("a", "message"),
    [
        (torch.zeros(5), r"first sample .* has the shape \(5,\)"),
        (torch.zeros(1, 3), r"has the shape \(1, 3\)"),
        (torch.zeros(5, 0), r"has the shape \(5, 0\)"),
        (torch.zeros(5, 3, 1), r"has the shape \(5, 3, 1\)"),
        (torch.zeros(5, 4), "the first sample has 4 and the second 3"),
        (torch.full((5, 3), torch.nan), "not finite"),
        (torch.full((5, 3), torch.inf), "not finite"),
    ],
)
def test_what_is_no_sample_is_refused(a, message):
    b = normal(6, 3, seed=0)
    with pytest.raises(DataError, match=message):
        frechet_distance(a, b)
    with pytest.raises(DataError):
        frechet_distance(b, a)
