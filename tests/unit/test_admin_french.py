"""The French translation: complete, compiled and shown."""

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

import bunce_sync
from bunce_sync.models import Segment
from tests.unit.admin_people import LIST, call, editor, page, row

APP = Path(bunce_sync.__file__).parent
CATALOG = APP / "locale" / "fr" / "LC_MESSAGES" / "django.po"
MARKERS = {"_", "gettext", "gettext_lazy", "ngettext_lazy", "ngettext"}
IN_TEMPLATE = re.compile(r'{%\s*translate\s+"([^"]+)"')
IN_BLOCK = re.compile(r"{%\s*blocktranslate[^%]*%}(.*?){%\s*(?:plural|endblocktranslate)")


def python_files() -> Iterator[Path]:
    for path in APP.rglob("*.py"):
        if "migrations" not in path.relative_to(APP).parts:
            yield path


def marked() -> Iterator[str]:
    """Yield every text that is marked for translation."""
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MARKERS:
                first = node.args[0]
                assert isinstance(first, ast.Constant), f"{path}:{node.lineno} is not a constant"
                yield str(first.value)
    for path in APP.rglob("templates/**/*.html"):
        template = path.read_text("utf-8")
        yield from IN_TEMPLATE.findall(template)
        for block in IN_BLOCK.findall(template):
            yield re.sub(r"{{ (\w+) }}", r"%(\1)s", block)


def written() -> dict[str, str]:
    """Return the catalog as people edit it; for plurals, the first form."""
    found: dict[str, str] = {}
    key, parts = "", {"msgid": "", "msgstr": ""}
    for line in [*CATALOG.read_text("utf-8").splitlines(), 'msgid ""']:
        keyword, _, rest = line.partition(" ")
        if line.startswith('"'):
            rest = line
        elif keyword.startswith("msg"):
            key = "msgstr" if keyword == "msgstr[0]" else keyword
            if key == "msgid":
                found[parts["msgid"]] = parts["msgstr"]
                parts = {"msgid": "", "msgstr": ""}
        else:
            continue
        parts[key] = parts.get(key, "") + ast.literal_eval(rest)
    return found


def compiled() -> dict[str, str]:
    """Return the catalog as Django reads it; for plurals, the first form."""
    with CATALOG.with_suffix(".mo").open("rb") as file:
        catalog = vars(gettext.GNUTranslations(file))["_catalog"]
    return {
        key[0] if isinstance(key, tuple) else key: text
        for key, text in catalog.items()
        if not isinstance(key, tuple) or key[1] == 0
    }


def test_every_text_has_its_translation() -> None:
    texts = compiled()
    assert [text for text in set(marked()) if not texts.get(text)] == []


def test_no_translation_is_missing_or_fuzzy() -> None:
    assert [key for key, text in written().items() if not text] == []
    assert "fuzzy" not in CATALOG.read_text("utf-8")


def test_the_compiled_catalog_is_up_to_date() -> None:
    assert compiled() == written(), "run `django-admin compilemessages` in bunce_sync/"


def test_translations_have_the_same_placeholders() -> None:
    values = re.compile(r"%\(\w+\)[sd]")
    for key, text in written().items():
        assert sorted(values.findall(text)) == sorted(values.findall(key)), key


def test_quotes_and_punctuation_have_non_breaking_spaces() -> None:
    loose = re.compile("«[^\u202f]|[^\u202f]»| [;:!?]")
    assert [text for text in written().values() if loose.search(text)] == []


@pytest.fixture
def client() -> Client:
    client = editor()
    client.cookies["django_language"] = "fr"
    return client


@pytest.mark.django_db
def test_the_list_is_in_french(client: Client) -> None:
    row("synced", bunce_type="automatic")
    shown = client.get(LIST).content.decode()
    assert "Automatique" in shown.split('class="field-type_cell')[1].split("</td>")[0]
    for words in ("Synchronisé", "requêtes sur 500 utilisées cette minute", "Aucun worker n"):
        assert words in shown
    for words in ("Synced", "Waiting", "requests", "Copy"):
        assert words not in re.sub(r"<[^>]*>|bunce-\S+", " ", shown)


@pytest.mark.django_db
@pytest.mark.parametrize("status", Segment.Status.values)
def test_every_state_is_shown_in_french(client: Client, status: str) -> None:
    segment = row(status, last_error="")
    call(segment, outcome="unknown", code="read_timeout")
    shown = client.get(page(segment)).content.decode()
    message = shown.split('id="bunce-state"')[1].split("</section>")[0]
    assert not re.search(r"\b(the|is|are|and|it)\b", re.sub(r"<[^>]*>", " ", message))
    assert "pas répondu à temps." in shown
