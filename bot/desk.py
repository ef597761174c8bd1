"""What every handler works with: the database, the registry, the people, the way of working."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from bot.abilities import Abilities
from bot.channels import Channels
from bot.people import People
from bot.pulse import Pulse
from core import db
from core.db import Engine, Session
from core.errors import Refused
from core.registry import Registry
from core.rollouts import Talk
from core.rules.approval import Actor, acting_objection
from core.settings import Settings

READING_MS = 20_000


@dataclass(frozen=True)
class Desk:
    """The parts a handler may use.

    `wake` rouses the deliverers, so that an effect follows its commit at once; `stopping` ends what takes long;
    `able` remembers which blocks the workspace does not take; `pulse` counts; every transaction passes `fence`.
    """

    engine: Engine
    registry: Registry
    people: People
    channels: Channels
    settings: Settings
    wake: threading.Condition = field(default_factory=threading.Condition)
    stopping: threading.Event = field(default_factory=threading.Event)
    able: Abilities = field(default_factory=Abilities)
    pulse: Pulse = field(default_factory=Pulse)
    fence: Callable[[Session], None] | None = None

    @property
    def command(self) -> str:
        """The slash command as people type it."""
        return self.settings.slack.command

    @property
    def approvals(self) -> str:
        """A link to the channel where requests are decided."""
        return self.channels.mention(self.settings.slack.approvals_channel)

    def aloud_in(self, experiment: str) -> tuple[str, str]:
        """The channels that are told of broken glass: of approvals and of rollouts; they may be one."""
        return self.settings.slack.approvals_channel, self.settings.channel_of(experiment)

    def talk(self, experiment: str) -> Talk:
        """Where and when an experiment is talked about."""
        settings = self.settings
        every = timedelta(minutes=settings.alerts.every_minutes)
        return Talk(settings.channel_of(experiment), settings.schedule_of(experiment), every)

    def check_may_act(self, experiment: str | None, actor: Actor) -> None:
        """Lets those through who may do what takes no approval, in an experiment or in none.

        Raises:
            Refused: everybody else, with why.
        """
        if against := acting_objection(experiment, actor=actor, roles=self.people.roles):
            raise Refused(against)

    @contextmanager
    def transaction(self, *, patience_ms: int = db.REQUEST_MS) -> Iterator[Session]:
        """One transaction for one request; its effects are carried out as soon as it is committed."""
        with db.transaction(self.engine, patience_ms=patience_ms) as session:
            if self.fence is not None:
                self.fence(session)
            yield session
        self.rouse()

    def rouse(self) -> None:
        """Has the deliverers look for effects now."""
        with self.wake:
            self.wake.notify_all()

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction for what measures traffic or asks the registry: after the acknowledgement, with more time."""
        return self.transaction(patience_ms=READING_MS)
