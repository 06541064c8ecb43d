"""The errors: one family, in which `except` finds what it should."""

import inspect

import pytest

from holdfast.sessions import errors

FAMILY = {
    "HoldfastError": {"Exception"},
    "InvalidArgument": {"HoldfastError", "ValueError"},
    "TooManySessions": {"HoldfastError"},
    "StoreRefused": {"HoldfastError"},
    "StoreUnavailable": {"HoldfastError"},
    "Overloaded": {"StoreUnavailable"},
    "AuthorityMoved": {"StoreUnavailable"},
    "OutcomeUnknown": {"StoreUnavailable"},
}


def test_the_family_is_the_one_that_is_promised() -> None:
    """Every error with its direct bases, and no other."""
    found = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    assert {name: {base.__name__ for base in value.__bases__} for name, value in found.items()} == FAMILY


@pytest.mark.parametrize("name", FAMILY)
def test_each_error_says_what_it_means_in_the_tree(name: str) -> None:
    """The drawing at the top of the module names every error, and each has a docstring."""
    assert name in (errors.__doc__ or "")
    assert getattr(errors, name).__doc__
