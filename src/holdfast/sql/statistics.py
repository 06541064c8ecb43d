"""The statements behind `sessions stats`: plain aggregates over every kept session. None of them shows a digest."""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Row,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    true,
    type_coerce,
    union_all,
)

from holdfast.sessions.statistics import Durations, Hour, Share, Statistics
from holdfast.sql.functions import hour_of, seconds_between
from holdfast.sql.statements import Statements
from holdfast.sql.tables import Instant, Span, Tables
from holdfast.sql.views import DEVICE_KEY


class StatisticsStatements:
    """The statements for one schema under one policy."""

    def __init__(self, tables: Tables, statements: Statements) -> None:
        """Build on the terms that say what live means."""
        self._columns: Any = tables.sessions.c
        self._now = statements.now
        self._live = statements.live
        self._since = type_coerce(statements.now - bindparam("window", type_=Span()), Instant())

    @property
    def totals(self) -> Executable:
        """The clock, and how many sessions are live and how many ended."""
        # The clock as a value of its own row: there is one even when no session is kept.
        counted = select(
            func.coalesce(func.sum(case((self._live, 1), else_=0)), 0).label("live"),
            func.count(self._columns.ended_at).label("ended"),
        ).subquery()
        return select(self._now.label("at"), counted.c.live, counted.c.ended).select_from(counted)

    @property
    def hours(self) -> Executable:
        """How many sessions were created and how many ended in each of the last hours, the newest first."""
        columns = self._columns
        made = select(hour_of(columns.created_at).label("hour"), literal(1).label("created")).where(
            columns.created_at >= self._since
        )
        over = select(hour_of(columns.ended_at), literal(0)).where(columns.ended_at >= self._since)
        each = union_all(made, over).subquery()
        created = func.sum(each.c.created)
        return (
            select(
                type_coerce(each.c.hour, Instant()).label("hour"),
                created.label("created"),
                (func.count() - created).label("ended"),
            )
            .group_by(each.c.hour)
            .order_by(each.c.hour.desc())
        )

    @property
    def users(self) -> Executable:
        """The users with the most live sessions."""
        return self._shares(self._columns.user_id, self._columns.user_id.is_not(None))

    @property
    def devices(self) -> Executable:
        """The devices with the most live sessions."""
        return self._shares(cast(self._columns.metadata[DEVICE_KEY].as_string(), Text()), true())

    def _shares(self, name: ColumnElement[Any], which: ColumnElement[bool]) -> Executable:
        columns = self._columns
        named = select(
            name.label("name"), case((self._live, 1), else_=0).label("live"), columns.request_count.label("requests")
        )
        each = named.where(which).subquery()
        live = func.sum(each.c.live)
        return (
            select(
                each.c.name,
                live.label("live"),
                func.count().label("kept"),
                func.sum(each.c.requests).label("requests"),
            )
            .group_by(each.c.name)
            .order_by(live.desc(), func.count().desc(), each.c.name)
            .limit(bindparam("top"))
        )

    @property
    def durations(self) -> Executable:
        """How long the sessions lasted that ended: the one in the middle, near the end, and the longest."""
        columns = self._columns
        length = seconds_between(columns.created_at, columns.ended_at)
        ranked = (
            select(
                length.label("seconds"),
                func.row_number().over(order_by=length).label("rank"),
                func.count().over().label("sessions"),
            )
            .where(columns.ended_at.is_not(None))
            .subquery()
        )

        def percentile(percent: int) -> ColumnElement[float]:
            reached = ranked.c.rank * 100 >= ranked.c.sessions * percent
            return func.min(case((reached, ranked.c.seconds)))

        return select(
            func.count().label("sessions"),
            percentile(50).label("median"),
            percentile(90).label("p90"),
            percentile(99).label("p99"),
            func.max(ranked.c.seconds).label("longest"),
        ).select_from(ranked)

    def ask(self, connection: Connection, values: dict[str, Any], hours: int, top: int) -> Statistics:
        """Run them all; one after another, so the numbers are of a moment only as far as nothing happens meanwhile."""
        window = {**values, "window": timedelta(hours=hours)}
        most = {**values, "top": top}
        totals = connection.execute(self.totals, values).one()
        lasted = connection.execute(self.durations).one()
        return Statistics(
            at=totals.at,
            live=int(totals.live),
            ended=totals.ended,
            hours=[
                Hour(hour=row.hour, created=int(row.created), ended=int(row.ended))
                for row in connection.execute(self.hours, window)
            ],
            users=[_share(row) for row in connection.execute(self.users, most)],
            devices=[_share(row) for row in connection.execute(self.devices, most)],
            durations=Durations(**lasted._mapping) if lasted.sessions else None,
        )


def _share(row: Row[Any]) -> Share:
    return Share(name=row.name, live=int(row.live), kept=row.kept, requests=int(row.requests))
