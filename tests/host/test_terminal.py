from __future__ import annotations

import io

import pytest

from nas.cli import messages
from nas.host.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc \u00e9\u732b", "a\tb\nc \u00e9\u732b"),
        ("ev\x1b[31mil", "ev\\x1b[31mil"),
        ("\r\x07\x7f\x9b", "\\r\\x07\\x7f\\x9b"),
        ("a\u202eb\u2028", "a\\u202eb\\u2028"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_control_characters_are_written_out(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable(text) == shown
    messages.say(text)
    assert capsys.readouterr().out == f"{shown}\n"


def test_progress_shows_names_as_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.host.progress import ProgressBar, console

    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    with ProgressBar("work", 1, console()) as bar:
        bar.message("class [red]a[/red] \x1b[31m")
        bar.update(1, "class [b] \x1b]0;x\x07")
    assert "class [red]a[/red] \\x1b[31m\n" in out.getvalue()
    assert "class [b] \\x1b]0;x\\x07" in out.getvalue() and "\x1b" not in out.getvalue()
