"""Every component of this package keeps the contract of its kind."""

from diffkit.testing import parametrize_with_checks


@parametrize_with_checks("samplers.*")
def test_contract(component, check):
    check(component)
