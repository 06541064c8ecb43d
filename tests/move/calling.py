"""Callers of an application's processes, which do at random what applications do, and keep a ledger of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from holdfast import OutcomeUnknown, SessionManager, StoreUnavailable
from tests.move.ledger import Known, Ledger

USERS = 6
CALLS = {
    "create": 5,
    "validate": 8,
    "look": 3,
    "look for an ended one": 2,
    "say": 3,
    "rotate": 2,
    "end": 2,
    "ticket": 1,
    "end user": 0.3,
    "erase user": 0.1,
    "sweep": 0.3,
}
"""What a caller does, and how often."""
PAUSES = (0, 0.002, 0.01)
"""Seconds between two calls of a caller, one as often as another."""


class Caller:
    """One task of a process. It asks any of its processes, as a balancer would."""

    def __init__(
        self,
        managers: Sequence[SessionManager],
        ledger: Ledger,
        chance: random.Random,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._managers = managers
        self._pauses = pauses
        self._ledger = ledger
        self._chance = chance
        self._numbers = iter(range(10**9))
        self._name = f"{chance.getrandbits(40):x}"

    async def call(self, stop: asyncio.Event) -> None:
        """Make calls until told to stop."""
        names, weights = list(CALLS), list(CALLS.values())
        while not stop.is_set():
            [name] = self._chance.choices(names, weights)
            await self._one(name)
            await asyncio.sleep(self._chance.choice(self._pauses))

    async def _one(self, name: str) -> None:
        manager = self._chance.choice(self._managers)
        try:
            done = await getattr(self, f"_{name.replace(' ', '_')}")(manager)
        except (StoreUnavailable, OutcomeUnknown) as error:
            self._ledger.refused[f"{name}: {type(error).__name__}"] += 1
        else:
            self._ledger.acknowledged[name] += done

    def _any(self, *, ended: bool = False, own: bool = False) -> Known | None:
        """A session, if there is one; with `own`, one that nobody else needs."""
        found = [
            known
            for known in self._ledger.sessions.values()
            if known.maybe_ended == ended and not (own and known.shared)
        ]
        return self._chance.choice(found) if found else None

    async def _create(self, manager: SessionManager) -> bool:
        said = {"é": self._chance.random()}
        user_id = f"u{self._chance.randrange(USERS)}"
        before, under_way = self._ledger.overs[user_id], self._ledger.overs_under_way[user_id]
        new = await manager.create_session(user_id, said)
        # While all of a user's sessions were being ended, either may have come first.
        unsure = bool(under_way) or self._ledger.overs[user_id] != before
        id = UUID(new.id).hex
        self._ledger.sessions[id] = Known(id, new.token, user_id, said, maybe_ended=unsure)
        return True

    async def _validate(self, manager: SessionManager) -> bool:
        return await self._validated(manager, self._any())

    async def _look_for_an_ended_one(self, manager: SessionManager) -> bool:
        await self._validated(manager, self._any(ended=True))
        return True

    async def _validated(self, manager: SessionManager, known: Known | None) -> bool:
        if known is None or known.rotating:
            return False
        token, was_ended = known.token, known.ended
        known.asked += 1
        found = await manager.validate_session(token)
        known.counted += found is not None
        self._check(known, token, found=found is not None, was_ended=was_ended)
        return found is not None

    def _check(self, known: Known, token: str, *, found: bool, was_ended: bool) -> None:
        # A token that was being replaced says nothing about its session.
        if found or (known.token == token and not known.rotating):
            self._ledger.check_answer(known, found=found, was_ended=was_ended)

    async def _look(self, manager: SessionManager) -> bool:
        known = self._any()
        if known is None:
            return False
        said, was_ended = dict(known.said), known.ended
        found = await manager.get_by_id(str(UUID(known.id)))
        self._ledger.check_answer(known, found=found is not None, was_ended=was_ended)
        if found is not None and any(found.metadata.get(key) != value for key, value in said.items()):
            self._ledger.broken.append(f"session {known.id} is read without metadata that was acknowledged (I2)")
        return True

    async def _say(self, manager: SessionManager) -> bool:
        known = self._any()
        if known is None:
            return False
        change, was_ended = {f"{self._name}-{next(self._numbers)}": self._chance.random()}, known.ended
        found = await manager.update_metadata_by_id(str(UUID(known.id)), change)
        self._ledger.check_answer(known, found=found is not None, was_ended=was_ended)
        if found is not None:
            known.said |= change
        return found is not None

    async def _rotate(self, manager: SessionManager) -> bool:
        known = self._any(own=True)
        if known is None or known.rotating:
            return False
        known.rotating, was_ended = True, known.ended
        try:
            new = await manager.rotate_session(known.token)
        except OutcomeUnknown:
            # It may have a token that nobody has: it stays marked, and can only be found by its id.
            raise
        except StoreUnavailable:
            known.rotating = False
            raise
        self._ledger.check_answer(known, found=new is not None, was_ended=was_ended)
        known.token, known.rotating = known.token if new is None else new.token, False
        return new is not None

    async def _end(self, manager: SessionManager) -> bool:
        known = self._any(own=True)
        if known is None:
            return False
        known.maybe_ended = True
        await manager.end_session(str(UUID(known.id)))
        known.ended = True
        return True

    async def _ticket(self, manager: SessionManager) -> bool:
        known = self._any()
        if known is None or known.rotating:
            return False
        token, was_ended = known.token, known.ended
        made = await manager.create_ticket(token)
        self._check(known, token, found=made is not None, was_ended=was_ended)
        if made is None:
            return False
        was_ended = known.ended
        taken = await self._chance.choice(self._managers).redeem_ticket(made[0])
        self._ledger.check_answer(known, found=taken is not None, was_ended=was_ended)
        if taken is not None and await manager.redeem_ticket(made[0]) is not None:
            self._ledger.broken.append(f"a ticket of session {known.id} was taken twice")
        return taken is not None

    async def _end_user(self, manager: SessionManager) -> bool:
        return await self._over(manager.revoke_user_sessions)

    async def _erase_user(self, manager: SessionManager) -> bool:
        return await self._over(manager.erase_user)

    async def _over(self, call: Callable[[str], Awaitable[int]]) -> bool:
        user_id = f"u{self._chance.randrange(USERS)}"
        before = [known for known in self._ledger.sessions.values() if known.user_id == user_id]
        for known in before:
            known.maybe_ended = True
        self._ledger.overs[user_id] += 1
        self._ledger.overs_under_way[user_id] += 1
        try:
            await call(user_id)
        finally:
            self._ledger.overs_under_way[user_id] -= 1
        for known in before:
            known.ended = True
        return True

    async def _sweep(self, manager: SessionManager) -> bool:
        await manager.sweep()
        return True
