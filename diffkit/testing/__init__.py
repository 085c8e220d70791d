"""Exact answers to test components against."""

from diffkit.testing.oracles import ExactGaussian, ExactMixture, OracleModel

__all__ = ["ExactGaussian", "ExactMixture", "OracleModel"]
