"""Facts about the pages of the reference: they are what the code says today, in full sentences."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from conftest import script
from documentation import REPOSITORY

from sweep.config.study import Study
from sweep.report.results import COLUMN_MEANINGS
from sweep.tasks import description


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return script("reference_pages")


def test_pages_are_made_of_the_code_as_it_is(reference: ModuleType) -> None:
    for path, text in reference.pages().items():
        assert (REPOSITORY / "docs" / path).read_text(encoding="utf-8") == text, f"{path}: `make docs` writes it anew"


def test_every_key_is_described_in_full_sentences(reference: ModuleType) -> None:
    keys = {
        f"{model.__name__}.{name}": model.model_fields[name] for model, names in sections(reference) for name in names
    }
    for kind in (description.LocalDataSet, description.HubDataSet, description.Published, description.Join):
        keys |= {f"{kind.__name__}.{name}": field for name, field in kind.model_fields.items()}
    for name, field in keys.items():
        text = field.description or ""
        assert text.endswith("."), name
        assert not text[0].islower(), name


def sections(reference: ModuleType) -> list[tuple[type[Study], list[str]]]:
    return list(reference._sections().values())


def test_every_column_has_a_meaning() -> None:
    meanings = [meaning for columns in COLUMN_MEANINGS.values() for meaning in columns.values()]
    assert all(meaning.endswith(".") for meaning in meanings)


def test_every_file_of_results_is_named(reference: ModuleType) -> None:
    page = reference.files_page()
    assert all(Path(file).name in page for file in COLUMN_MEANINGS)
