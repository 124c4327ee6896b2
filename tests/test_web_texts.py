"""The sentences of the web pages in all their languages."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from tinyserver.api.web.texts import TEXTS, preferred_language
from tinyserver.mail.texts import MAIL_TEXTS

PAGES = Path(__file__).parent.parent / "tinyserver" / "api" / "web"


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", TEXTS)
def test_every_language_says_the_same(language: str) -> None:
    english = TEXTS["en"]
    assert TEXTS[language].keys() == english.keys()
    for key, text in TEXTS[language].items():
        assert text.strip()
        assert placeholders(text) == placeholders(english[key]), key


def test_mails_speak_the_same_languages_as_pages() -> None:
    assert MAIL_TEXTS.keys() == TEXTS.keys()
    for texts in MAIL_TEXTS.values():
        assert texts.keys() == MAIL_TEXTS["en"].keys()
        assert all(placeholders(text) == placeholders(MAIL_TEXTS["en"][key]) for key, text in texts.items())


def test_every_sentence_is_used() -> None:
    code = "".join(file.read_text("utf-8") for file in PAGES.glob("*.py") if file.name != "texts.py")
    said = set(re.findall(r'"([a-z_]+)"', code))
    assert sorted(TEXTS["en"].keys() - said) == []


def test_the_language_that_is_liked_best() -> None:
    assert preferred_language("de") == "de"
    assert preferred_language("fr, de;q=0.2") == "de"
    assert preferred_language("") == "en"
    assert preferred_language("de;q=nan, *;q=1") == "en"
    assert preferred_language("," * 5000 + "de") == "en"
