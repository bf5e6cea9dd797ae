"""Extensions, under the names they have in SQLAlchemy."""
