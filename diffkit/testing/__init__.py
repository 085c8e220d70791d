"""Laws to hold components to, and exact answers to test them against."""

from diffkit.testing.check import Check
from diffkit.testing.kit import Outcome, parametrize_with_checks, run_checks, subjects
from diffkit.testing.laws import LawBroken
from diffkit.testing.oracles import ExactGaussian, ExactMixture, OracleModel
from diffkit.testing.subject import Bench, Subject

__all__ = [
    "Bench",
    "Check",
    "ExactGaussian",
    "ExactMixture",
    "LawBroken",
    "OracleModel",
    "Outcome",
    "Subject",
    "parametrize_with_checks",
    "run_checks",
    "subjects",
]
