"""Everything that Holdfast raises.

    HoldfastError
    ├── InvalidArgument (also a ValueError)   the caller's mistake; nothing was done
    ├── TooManySessions                       the user's cap is reached and the policy is to refuse
    ├── StoreRefused                          the store must not be used as it is; waiting does not help
    └── StoreUnavailable                      the store did not do it; waiting may help
        ├── Overloaded                        more calls are waiting than the bound allows
        ├── AuthorityMoved                    this store no longer accepts writes; another one does
        └── OutcomeUnknown                    the write may or may not have happened

Expected outcomes are answers, not errors: a token that opens nothing gives `None` or `False`.
"""


class HoldfastError(Exception):
    """Base of every error that Holdfast raises on purpose."""


class InvalidArgument(HoldfastError, ValueError):
    """An argument has the wrong type or breaks a stated limit. Nothing was done; the message says which limit."""


class TooManySessions(HoldfastError):
    """The user already has as many live sessions as the cap allows. Nothing was created."""


class StoreRefused(HoldfastError):
    """The store is not one Holdfast may use: foreign tables, another schema version, a damaged file, a wrong address.

    Nothing was changed. Trying again does not help; the message says what does.
    """


class StoreUnavailable(HoldfastError):
    """The store could not be asked, or answered that it did not do it. Nothing was changed; safe to repeat."""


class Overloaded(StoreUnavailable):
    """Too many calls are waiting already. This one was not sent; safe to repeat after a pause."""


class AuthorityMoved(StoreUnavailable):
    """The store refused a write because another store holds the authority. The write was not made here."""


class OutcomeUnknown(StoreUnavailable):
    """The write was sent and no answer came: it may or may not have happened.

    A count that must stay exact is never sent twice, so a repeat may count one activity twice.
    Every other operation may be repeated.
    """
