"""Short ways to bring a pool's core into a state, and to read what it answers."""

from __future__ import annotations

from sojourn.pooling.core import Close, Connect, Entry, Leak, Open, Reclaim, Ticket, Wait, Wake


def lend(core, connection="c", now=0.0, luck=0.0):
    """Acquire through a new connection."""
    ticket = Ticket()
    ticket.races = False
    assert isinstance(core.acquire(ticket, now), Connect)
    entry = Entry(connection)
    core.connected(entry, now, luck=luck)
    return entry


def stand_in_line(core, count=1, now=0.0, patience=None):
    """Let callers wait; return their tickets, and what else there is to do."""
    tickets, actions = [], []
    for _ in range(count):
        ticket = Ticket(deadline=None if patience is None else now + patience)
        decision = core.acquire(ticket, now)
        assert isinstance(decision, Wait)
        actions += decision.actions
        tickets.append(ticket)
    return tickets, actions


def said(actions):
    """Return actions as pairs that can be compared."""
    facts = {
        Wake: lambda action: action.ticket,
        Close: lambda action: (action.entry.connection, action.reason),
        Open: lambda action: None,
        Leak: lambda action: action.entry.connection,
        Reclaim: lambda action: action.entry.connection,
    }
    return [(type(action), facts[type(action)](action)) for action in actions]


def opening(actions):
    return [kind for kind, _ in said(actions)].count(Open)
