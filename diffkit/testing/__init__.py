"""Laws to hold components to, and exact answers to test them against."""

from diffkit.testing.check import Check
from diffkit.testing.component_under_test import ComponentUnderTest, Fixtures
from diffkit.testing.kit import Outcome, components_under_test, parametrize_with_checks, run_checks
from diffkit.testing.laws import LawBroken
from diffkit.testing.oracles import ExactGaussian, ExactMixture, OracleModel

__all__ = [
    "Check",
    "ComponentUnderTest",
    "ExactGaussian",
    "ExactMixture",
    "Fixtures",
    "LawBroken",
    "OracleModel",
    "Outcome",
    "components_under_test",
    "parametrize_with_checks",
    "run_checks",
]
