"""SQLAlchemy Core's events, for engines and pools."""

from sqlalchemy.event import contains, listen, listens_for, remove

__all__ = ["contains", "listen", "listens_for", "remove"]
