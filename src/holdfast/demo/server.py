"""The server over both stores, until `holdfast serve` takes both."""

from holdfast.move.following import FollowingStore
from holdfast.server import run
from holdfast.server.app import create_app
from holdfast.sessions.store import StoreOptions
from holdfast.settings import Settings
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.postgresql import PostgresqlStore
from holdfast.sql.sqlite import SqliteStore


def main() -> None:
    """Serve."""
    settings = Settings.from_environment()
    left, entered = parse_address(settings.sqlite_path or ""), parse_address(settings.database_url or "")
    if not isinstance(left, SqliteAddress) or not isinstance(entered, PostgresqlAddress):
        raise SystemExit("both stores have to be named")
    options = StoreOptions(schema=settings.schema, follows=True)
    store = FollowingStore(
        SqliteStore(left, options), PostgresqlStore(entered, options), preferred="sqlite", deadline=5
    )
    run.serve(settings, create_app(settings, settings.manager(store)))


if __name__ == "__main__":
    main()
