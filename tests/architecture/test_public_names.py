"""The names that applications may import, frozen: a change here is a change of the API."""

import holdfast
from holdfast import testing

PUBLIC = [
    "AuthorityMoved",
    "End",
    "EndHook",
    "EndReason",
    "HoldfastError",
    "InvalidArgument",
    "NewSession",
    "OutcomeUnknown",
    "Overloaded",
    "Session",
    "SessionManager",
    "StoreOptions",
    "StoreRefused",
    "StoreUnavailable",
    "Swept",
    "TooManySessions",
    "TwoStores",
    "Watch",
    "WhyEnded",
    "get_session_manager",
    "sessions_table",
]


def test_the_public_names_of_the_package() -> None:
    """Exactly these, in order, and each of them is there."""
    assert holdfast.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(holdfast, name) is not None


def test_the_public_names_of_the_test_kit() -> None:
    """What an application's tests import; suite and machine are modules of their own."""
    assert testing.__all__ == ["Fault", "FaultyStore", "MemoryStore", "MovableClock"]
    for name in testing.__all__:
        assert getattr(testing, name) is not None


def test_the_verbs_of_the_manager() -> None:
    """The methods that the contract names, and no other public one."""
    verbs = {name for name in vars(holdfast.SessionManager) if not name.startswith("_")}
    assert verbs == {
        "open", "close", "ping", "store", "open_store", "from_environment", "observe", "load",
        "create_session", "validate_session", "get_session", "delete_session", "extend_session",
        "rotate_session", "update_metadata", "why_ended", "watch", "create_ticket", "redeem_ticket",
        "get_by_id", "validate_by_id", "extend_by_id", "update_metadata_by_id", "end_session", "list_sessions",
        "revoke_user_sessions", "erase_user", "cleanup_expired_sessions", "sweep", "get_active_session_count",
    }  # fmt: skip
