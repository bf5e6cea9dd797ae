"""`sojourn doctor` says what runs here, and explains errors by their code."""

from __future__ import annotations

from sojourn import cli


def test_it_says_what_runs_here(capsys):
    """Versions, kernel and drivers are told."""
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "kernel      " in told
    assert "sqlite3" in told


def test_it_explains_a_code(capsys):
    """The code at the end of a message leads to the longer story; an unknown one says so."""
    assert cli.main(["doctor", "--explain", "sj202"]) == 0
    assert "DetachedRead" in capsys.readouterr().out
    assert cli.main(["doctor", "--explain", "SJ999"]) == 1
    assert "SJ999" in capsys.readouterr().err
