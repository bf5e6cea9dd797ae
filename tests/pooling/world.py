"""Callers, creators and time around a `PoolCore`, and what must be true after every step of theirs."""

from __future__ import annotations

from sojourn.pooling.core import Close, Connect, Entry, Open, PoolCore, Ticket, Wait, Wake

REASONS = {
    "expired", "idle", "server", "broken", "reset", "resize", "overflow", "dispose", "fork",
    "detached", "reclaimed", "closed", "soft",
}  # fmt: skip


class Refused(Exception):
    """What a server answers that does not let anybody in."""


class World:
    """Everybody a pool deals with; each method is one thing that can happen to it."""

    def __init__(self, **options):
        self.core = PoolCore(**options)
        self.now = 100.0
        self.steps = 0
        self.born = 0
        self.line = []  # tickets that wait, in the order in which they came
        self.woken = []  # tickets that were served; their callers have not run yet
        self.permits = 0  # callers that connect
        self.creators = 0
        self.lent = []  # what callers hold
        self.gone = set()  # entries that left the pool, each of them once
        self.total = 0

    # -- callers --

    def acquire(self, patience=None, *, races=True):
        idle, line = list(self.core.idle), list(self.core.waiting)
        if not idle or (entry := self.core.take(self.now)) is None:
            ticket = Ticket(deadline=None if patience is None else self.now + patience)
            ticket.races = races
            entry = self.core.acquire(ticket, self.now)
        if isinstance(entry, Wait):
            assert not idle or self.core.closed, "somebody waits beside an idle connection"
            self.line.append(ticket)
            self.carry_out(entry.actions)
        elif isinstance(entry, Connect):
            self.permits += 1
            assert not line, "somebody connects past those who wait"
            if entry.retired is not None:
                assert entry.retired in idle
                self.leave(entry.retired)
        else:
            assert entry in idle
            assert not self.is_over(entry)
            self.hold(entry)
        return self.settle()

    def proceed(self, index):
        """Let a woken caller run."""
        ticket = self.woken.pop(index % len(self.woken))
        if ticket.entry is not None:
            self.hold(ticket.entry)
        elif ticket.may_connect:
            self.permits += 1
        return self.settle()

    def give_up(self, index):
        """Time out or cancel a caller that waits, or that was served and does not know it yet."""
        everybody = [*self.line, *self.woken]
        ticket = everybody[index % len(everybody)]
        (self.line if ticket in self.line else self.woken).remove(ticket)
        self.carry_out(self.core.give_up(ticket, self.now))
        assert ticket.gone or ticket.error
        assert self.core.give_up(ticket, self.now) == ()
        return self.settle()

    def connect(self, luck=0.0):
        self.permits -= 1
        entry = self.make()
        self.core.connected(entry, self.now, took=0.1, luck=luck)
        self.hold(entry)
        return self.settle()

    def fail_to_connect(self, *, hopeless=False):
        self.permits -= 1
        self.carry_out(self.core.connect_failed(Refused(), hopeless=hopeless, now=self.now))
        assert not (hopeless and self.core.waiting)
        return self.settle()

    def give_back(self, index, reason=None):
        entry = self.lent.pop(index % len(self.lent))
        if reason is not None or not self.core.give(entry, self.now):
            self.carry_out(self.core.release(entry, self.now, reason))
        if not entry.lent:
            assert not self.core.give(entry, self.now), "a connection is given back twice"
        return self.settle()

    def detach(self, index):
        entry = self.lent.pop(index % len(self.lent))
        self.leave(entry)
        self.carry_out(self.core.detach(entry, self.now))
        return self.settle()

    def replace(self, index):
        entry = self.lent.pop(index % len(self.lent))
        self.permits += 1
        self.carry_out([self.core.replace(entry, "server")])
        return self.settle()

    # -- creators --

    def create(self, luck=0.0):
        self.creators -= 1
        self.carry_out(self.core.opened(self.make(), self.now, took=0.1, luck=luck))
        return self.settle()

    def fail_to_create(self, *, error=True, hopeless=False):
        self.creators -= 1
        failure = Refused() if error or hopeless else None
        self.carry_out(self.core.open_failed(failure, hopeless=hopeless, now=self.now))
        assert not (hopeless and self.core.waiting)
        return self.settle()

    # -- the pool's owner, and time --

    def resize(self, size, overflow):
        self.carry_out(self.core.resize(size, overflow, self.now))
        return self.settle()

    def dispose(self):
        self.carry_out(self.core.dispose(now=self.now))
        assert not self.core.idle
        return self.settle()

    def doom(self, age):
        self.carry_out(self.core.doom(self.now - age, "server", self.now))
        assert all(entry.born > self.now - age for entry in self.core.idle)
        return self.settle()

    def fill(self, idle):
        self.carry_out(self.core.fill(idle))
        return self.settle()

    def borrow(self, index):
        entry = self.core.idle[index % len(self.core.idle)]
        self.core.borrow(entry, self.now)
        self.hold(entry)
        return self.settle()

    def tick(self):
        self.carry_out(self.core.tick(self.now))
        due = self.core.due(self.now)
        assert due is None or due > self.now, "the keeper would be called again at once"
        assert all(not self.is_over(entry) or entry is self.core.retiring for entry in self.core.idle)
        return self.settle()

    def wait(self, seconds):
        self.now += seconds
        return self.settle()

    def close(self):
        self.carry_out(self.core.close(Refused()))
        assert not self.core.waiting
        assert not self.core.idle
        return self.settle()

    def fork(self):
        """Go on as the child: whoever waited, connected or held something was left behind."""
        left = self.core.forget()
        inside = [ticket.entry for ticket in self.woken if ticket.entry is not None]
        assert all(entry in left for entry in [*self.lent, *inside])
        for entry in left:
            self.leave(entry)
        self.line, self.woken, self.lent = [], [], []
        self.permits = self.creators = self.total = 0
        return self.settle()

    def come_to_rest(self):
        """Let everybody end what they do."""
        while self.line or self.woken or self.permits or self.creators or self.lent:
            for _ in range(self.creators):
                self.create()
            for _ in range(self.permits):
                self.connect()
            for index in reversed(range(len(self.woken))):
                self.proceed(index)
            for index in reversed(range(len(self.lent))):
                self.give_back(index)
            if self.line and not (self.creators or self.woken or self.permits or self.lent):
                # all who are left came too late, and nobody has to tell them
                assert all(not self.is_live(ticket) for ticket in self.line)
                self.give_up(0)

    # -- how it is kept track of --

    def make(self):
        self.born += 1
        return Entry(self.born)

    def is_over(self, entry):
        return entry.doomed is not None or bool(entry.expires and entry.expires <= self.now)

    def is_live(self, ticket):
        return ticket.deadline is None or ticket.deadline > self.now

    def hold(self, entry):
        assert entry not in self.lent, "one connection is lent to two callers"
        assert entry not in self.gone
        assert entry.lent
        self.lent.append(entry)

    def leave(self, entry):
        assert entry not in self.gone, "a connection is closed twice"
        self.gone.add(entry)

    def carry_out(self, actions):
        for action in actions:
            if isinstance(action, Wake):
                self.wake(action.ticket)
            elif isinstance(action, Close):
                assert action.reason in REASONS
                assert action.entry not in self.lent, "a connection is closed that somebody uses"
                self.leave(action.entry)
            elif isinstance(action, Open):
                self.creators += 1
            else:
                assert action.entry.lent

    def wake(self, ticket):
        assert ticket.served
        index = self.line.index(ticket)
        if ticket.error is None:
            assert self.is_live(ticket), "somebody is served whose time is up"
            assert all(other.gone or other.error for other in self.line[:index]), "somebody was overtaken"
        self.line.remove(ticket)
        self.woken.append(ticket)

    def settle(self):
        """Check what must be true between any two steps."""
        self.steps += 1
        core = self.core
        inside = [ticket.entry for ticket in self.woken if ticket.entry is not None]
        asking = sum(ticket.may_connect for ticket in self.woken)
        waiting = list(core.waiting)
        # each ticket is in one place
        assert [ticket for ticket in self.line if not ticket.gone and not ticket.error] == waiting
        for ticket in [*self.line, *self.woken]:
            places = [ticket in core.waiting, ticket.entry is not None, ticket.may_connect]
            assert sum([*places, ticket.error is not None, ticket.gone]) == 1
        # each entry is in one place
        assert set(core.lent) == {*self.lent, *inside}
        assert len(core.lent) == len(self.lent) + len(inside) == core.leased
        assert all(entry.lent and core.lent[entry.slot] is entry for entry in core.lent)
        assert len(set(core.idle)) == len(core.idle)
        assert not any(entry.lent or entry.generation != core.generation for entry in core.idle)
        assert not self.gone & {*core.idle, *core.lent}
        assert len(core.idle) + len(core.lent) + len(self.gone) == self.born
        # nothing is counted twice or forgotten
        assert core.creators == self.creators
        assert core.connecting == self.permits + asking + self.creators
        assert core.total == len(core.idle) + len(core.lent) + core.connecting
        assert core.counts["opened"] - sum(core.closed_by.values()) == len(core.idle) + len(core.lent)
        # the limit holds; above one that was lowered nothing is idle and nothing is added
        if core.limit is not None and core.total > core.limit:
            assert not core.idle
            assert core.total <= self.total
        self.total = core.total
        # nobody waits beside what they could have
        assert not (core.idle and core.waiting)
        if core.waiting and core.has_room():
            assert core.racing
            assert core.creators >= min(core.max_creators, len(core.waiting))
        assert core.racing or not core.creators or not core.waiting or not core.has_room()
