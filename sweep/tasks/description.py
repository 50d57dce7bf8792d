"""Keys of descriptions of a user's own data sets, below `tasks` in the study file, with types and meanings.

A data set lies on the hub where it or a part of it says `hub`; `format: xtreme` is a task of the benchmarks in its
publishers' files; all others lie in local files. What a part of a split does not say of how rows are read, its data set
says. {language} and {code} in paths, configurations, `keep` and `skip` stand for a language and for what `languages`
makes of it. What depends on the family of the task is checked in describe.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Strict, Tag, TypeAdapter, model_validator
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError

from sweep.config.axes import KEYS
from sweep.config.phases import PHASES
from sweep.config.study import Study
from sweep.config.values import Model, Name, Positive, no_item_twice
from sweep.data import SPLITS
from sweep.data.columns import spelling
from sweep.data.retrieval_formats import ALL_READERS
from sweep.errors import nearest
from sweep.tasks.question_answering import FORMS, NORMALISERS


def _wrong(expected: str, near: str | None = None) -> PydanticCustomError:
    return PydanticCustomError("description", "{expected} is expected", {"expected": expected, "nearest": near})


def _one_of(known: Iterable[str]) -> AfterValidator:
    """Check that a text is one of these names."""
    names = tuple(known)

    def check(name: str) -> str:
        if name not in names:
            raise _wrong(f"one of {', '.join(names)}", nearest(name, names))
        return name

    return AfterValidator(check)


def _listed(value: object) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _labels(value: object) -> dict[str, tuple[str, ...]]:
    """Label -> its spellings beside itself."""
    if isinstance(value, (list, tuple)) and value:
        no_item_twice([spelling(name) for name in value])
        return {spelling(name): () for name in value}
    if isinstance(value, dict) and value:
        return {spelling(name): tuple(map(spelling, _listed(ways))) for name, ways in value.items()}
    raise _wrong("a list of labels, or {label: [spellings]},")


def _codes(value: object) -> dict[str, str]:
    """Language -> its code in paths and configurations."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
        return {language: language for language in value}
    if isinstance(value, dict) and value and all(isinstance(code, str) for code in value.values()):
        return {str(language): code for language, code in value.items()}
    raise _wrong("a list of languages, or {language: code},")


def _column(value: object) -> str | list[Any] | dict[str, Any]:
    """Column as sweep.data.columns.Columns takes it."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_column(item) for item in value]
    if isinstance(value, dict) and isinstance(value.get("by"), str):
        return {str(key): _column(item) for key, item in value.items()}
    raise _wrong("a column, a text with {columns} in it, a list of these, or {by: column, value: text}")


def _rows(value: object) -> object:
    """Language, or "other" -> rows."""
    return value if isinstance(value, dict) else {"other": value}


def _share(value: Any) -> float:
    if isinstance(value, bool) or not 0 < value < 1:
        raise _wrong("a share between 0 and 1, or a file,")
    return float(value)


Text = Annotated[str, Strict()]
Texts = tuple[Text, ...]
Flag = Annotated[bool, Strict()]
Languages = Annotated[Texts, Field(min_length=1)]
Format = Annotated[Text, _one_of(ALL_READERS), Field(json_schema_extra={"enum": [*ALL_READERS]})]
NormalForm = Annotated[Text, _one_of(FORMS), Field(json_schema_extra={"enum": [*FORMS]})]
Normaliser = Annotated[Text, _one_of(NORMALISERS), Field(json_schema_extra={"enum": [*NORMALISERS]})]
Tokens = Annotated[float, Strict(), Field(gt=0)]
TOKENS = (
    "The mean subword tokens of an example, without padding; a guess will do. Plans price phases with it. Local files"
    " are looked at where it is left out."
)
Labels = Annotated[dict[str, tuple[str, ...]], BeforeValidator(_labels, list[Any] | dict[Any, Any] | str)]
Codes = Annotated[dict[str, str], BeforeValidator(_codes, list[str] | dict[str, str])]
Column = Annotated[Any, BeforeValidator(_column, str | int | list[Any] | dict[str, Any])]
Spelled = Annotated[str, BeforeValidator(spelling, str | int | float | bool)]
Values = Annotated[tuple[Spelled, ...], BeforeValidator(_listed, Spelled | list[Spelled])]
ByColumn = dict[Annotated[str, BeforeValidator(str)], Values]  # columns of CoNLL files are numbers
Rows = Annotated[dict[Text, Positive], BeforeValidator(_rows, int | dict[str, int])]
Share = Annotated[float, BeforeValidator(_share), Tag("a share")]
SHARE_OR_DATA = Discriminator(lambda value: "a share" if isinstance(value, (int, float)) else "data")


class Described(Model, defer_build=True):  # DESCRIPTION builds them all
    """Mapping of a description. A key without a value counts as absent."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if value is not None or key not in cls.model_fields}


class Join(Described):
    """Second file whose columns are added to the rows with the same id, such as gold labels."""

    path: Text = Field(description="The path of the second file, below data_root.")
    format: Format = Field(description="The format of the second file.")
    on: Text = Field(description="The column that both files have, such as an id.")
    header: Texts = Field((), description="The names of its columns, where it does not begin with them.")
    quoting: Flag | None = Field(
        None, description="Whether quotation marks enclose values. Left out, yes in csv and no in tsv."
    )


class Sizes(Described):
    """Rows of each split: a number, or {language: rows, other: rows}."""

    train: Rows | None = Field(
        None, description="Rows of the training data: a number, or {language: rows, other: rows}."
    )
    dev: Rows | None = Field(None, description="Rows of the dev data, in the same way.")
    test: Rows | None = Field(None, description="Rows of the test data, in the same way.")


class Reading(Described):
    """Reading of rows: keys of a data set that hold for all of its parts, and that a part may replace."""

    # A column is a name, a text with {names} in it, a list of these, or {by: column, value: text}.
    columns: dict[Text, Column] | None = Field(
        None,
        description=(
            "{column of the family, or unit: column of the data}. A column of the data is a name; a number in "
            "CoNLL files; a text with {names} in it, which are filled in; a list of these; or {by: column, "
            "value: text}, where the value of a column chooses. `a.b` is b inside of a, `a.0` its first item and "
            "`a.*.b` a list, the b of each item. `unit` names rows "
            "that are no independent evidence, such as questions of one passage. Left out, columns have the "
            "family's names."
        ),
    )
    labels: Labels | None = Field(
        None,
        description=(
            "A list, {label: [spellings]}, or a local file with one on a line. Numbers are labels like "
            'others: ["0", "1"] where files have them.'
        ),
    )
    languages: Codes | None = Field(
        None,
        description=(
            "A list, or {language: code in paths and configurations}. {language} and {code} stand for them in "
            "paths, config, keep and skip."
        ),
    )
    keep: ByColumn | None = Field(
        None, description="{column: [values]} that rows must have; abc* for any that begin so."
    )
    skip: ByColumn | None = Field(
        None, description="{column: [values]} that rows must not have; abc* for any that begin so."
    )
    omit: Texts = Field((), description="Tags whose words are left out (token tasks).")
    omit_empty: Flag = Field(False, description="Whether words without a character are left out (token tasks).")
    skip_misplaced: Flag = Field(
        False,
        description=(
            "Whether rows whose answer does not stand at its offset are left out (span tasks); else they are mistakes."
        ),
    )
    normal_form: NormalForm | None = Field(
        None,
        description=(
            "The Unicode form in which contexts, questions and answers are read (span tasks): NFC, NFD, NFKC "
            "or NFKD. Left out, as they are written. For files whose offsets count characters of another "
            "form."
        ),
    )


class LocalReading(Reading):
    """Reading of rows of local files."""

    format: Format | None = Field(None, description="The format of the files.")
    header: Texts = Field((), description="The names of the columns, where files do not begin with them (csv, tsv).")
    quoting: Flag | None = Field(
        None, description="Whether quotation marks enclose values (csv, tsv). Left out, yes in csv and no in tsv."
    )
    lines: Texts = Field((), description="The names of a record's lines (blocks), one for each line of it.")
    pair: Text | None = Field(None, description="The path of the translations, or other side (parallel, comparable).")
    gold: Text | None = Field(
        None,
        description="The path of the pairs of ids (comparable); of mentions, of a JSON object {mention: [entity]}.",
    )
    join: Join | None = Field(
        None, description="A second file with further columns of the same rows, such as gold labels."
    )


class HubReading(Reading):
    """Reading of rows of a hub data set."""

    hub: Text | None = Field(None, description="Owner/name on the hub, or a local folder laid out like one.")
    config: Text | None = Field(None, description="The configuration of the data set, often with {code}.")
    revision: Text | None = Field(
        None,
        description=(
            "Branch, tag or commit; by default the main branch. A name becomes a commit at first use, which "
            "is recorded with the study."
        ),
    )
    fallback: Text | None = Field(None, description="A revision for where that one cannot be loaded.")
    first: Positive | None = Field(None, description="So many rows, streamed, of what is too large to fetch.")


class Part(Described):
    """Data of a split that are read alike. A text stands for its main key, which must be there."""

    main: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, (str, dict)):
            raise _wrong(f"a {cls.main}, or a mapping with `{cls.main}`,")
        return {cls.main: given} if isinstance(given, str) else given


class LocalPart(LocalReading, Part):
    """Files of a split."""

    main = "path"
    path: Text = Field(description="The path of a file, below data_root; a * stands for any part of a name.")


class HubPart(HubReading, Part):
    """Split of a hub data set."""

    main = "split"
    split: Text = Field(description="The name of the split on the hub.")


LocalParts = Annotated[tuple[LocalPart, ...], BeforeValidator(_listed, Text | LocalPart | list[Text | LocalPart])]
HubParts = Annotated[tuple[HubPart, ...], BeforeValidator(_listed, Text | HubPart | list[Text | HubPart])]
LocalDev = Annotated[Share | Annotated[LocalParts, Tag("data")], SHARE_OR_DATA]
HubDev = Annotated[Share | Annotated[HubParts, Tag("data")], SHARE_OR_DATA]


class AnyDataSet(Described):
    """Keys of a data set as a whole."""

    family: Text = Field(description="A family of tasks, or module:Class of a Python file beside the study file.")
    train_language: Name = Field("en", description="Language of the training data, and of dev.")
    train_languages: Languages | None = Field(
        None,
        description=(
            "Languages of the training data, if several; then {language} or {code} stands in the path of train."
        ),
    )
    corpora: Texts = Field(
        (),
        description=(
            "Names of the corpora inside, by which overlaps between tasks are found, also without a row in common."
        ),
    )
    normaliser: Normaliser = Field(
        "squad",
        description=(
            "How answers are compared (span tasks): as SQuAD's script does in every language, or as MLQA's does."
        ),
    )
    metric: Text | None = Field(
        None, description="Instead of the family's own metric: another of its, or module:function."
    )
    pool: Texts = Field((), description="Languages of the test data that are searched and not scored (ranking tasks).")
    licence: Text = Field("", description="A short note on the terms of the data.")
    sizes: Sizes | None = Field(
        None,
        description=(
            "Rows of each split. Local files are counted where it is left out; state them where that takes long."
        ),
    )
    tokens: Tokens | None = Field(None, description=TOKENS)


class LocalDataSet(LocalReading, AnyDataSet):
    """Data set in local files."""

    train: LocalParts | None = Field(
        None, description="A path, {path, ...}, or a list of these. Left out, the task is never trained on."
    )
    dev: LocalDev | None = Field(
        None, description="The same, or a share of train such as 0.1, drawn by label, passages and documents whole."
    )
    test: LocalParts | None = Field(
        None, description="The same as for train, in every language of the task. Left out, the task is never a target."
    )


class HubDataSet(HubReading, AnyDataSet):
    """Data set on the hub. Its sizes and tokens must be there: a plan has no network."""

    tokens: Tokens = Field(description=TOKENS)
    train: HubParts | None = Field(
        None,
        description="The name of a split, {split, ...}, or a list of these. Left out, the task is never trained on.",
    )
    dev: HubDev | None = Field(
        None, description="The same, or a share of train such as 0.1, drawn by label, passages and documents whole."
    )
    test: HubParts | None = Field(
        None, description="The same as for train, in every language of the task. Left out, the task is never a target."
    )


class Published(Described):
    """Task of the benchmarks in its publishers' files, which catalog/publishers.py lists."""

    format: Literal["xtreme"] = Field(description="The word `xtreme`.")
    path: Text = Field(description="The folder with the benchmark's files, below data_root.")
    task: Text | None = Field(None, description="The benchmark's task, where the study calls it otherwise.")
    languages: Codes | None = Field(None, description="Those to test in; by default all.")


def kind_of(given: Mapping[str, Any]) -> str:
    """Tag of a description in the union of their kinds."""
    parts = [part for split in SPLITS for part in _listed(given.get(split))]
    if any("hub" in section for section in (given, *parts) if isinstance(section, Mapping)):
        return "on the hub"
    return "published files" if given.get("format") == "xtreme" else "local files"


Description = Annotated[
    Annotated[LocalDataSet, Tag("local files")]
    | Annotated[HubDataSet, Tag("on the hub")]
    | Annotated[Published, Tag("published files")],
    Discriminator(kind_of),
]
DESCRIPTION: TypeAdapter[LocalDataSet | HubDataSet | Published] = TypeAdapter(Description)


class _Untitled(GenerateJsonSchema):
    """Generator that gives fields no titles, which would repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """False."""
        return False


def study_schema() -> dict[str, Any]:
    """JSON schema of a study file, descriptions of data sets included: what an editor completes and checks.

    Takes all that sweep.config.load takes. Of what that refuses it lets pass what no schema can say: names of tasks,
    and keys that go together.
    """
    kinds: tuple[TypeAdapter[Any], ...] = (TypeAdapter(Study), DESCRIPTION)
    references, schema = TypeAdapter.json_schemas(
        [(number, "validation", kind) for number, kind in enumerate(kinds)], schema_generator=_Untitled
    )
    study, description = (references[number, "validation"] for number in range(len(kinds)))
    definitions = schema["$defs"]
    _add_settings_axes(definitions)
    definitions["Study"]["properties"]["tasks"]["additionalProperties"] = description
    phases = definitions["Phases"]["properties"]
    changes = {key: value for key, value in phases.items() if key != "overrides"}
    phases["overrides"]["additionalProperties"] = {
        "type": "object", "properties": changes, "additionalProperties": False,
    }  # fmt: skip
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **study, **schema}


def _add_settings_axes(definitions: dict[str, Any]) -> None:
    """Puts the paths of keys of phases into the schema of axes; a section need not say what an axis sets."""
    axes, keys = definitions["Axes"], definitions["Phases"]["properties"]
    del axes["properties"]["<phase>.<key>"]
    axes["patternProperties"] = {}
    for name in KEYS:
        outer, _, inner = name.partition(".")
        key = definitions[outer.capitalize()]["properties"][inner] if inner else keys[outer]
        values = {word: value for word, value in key.items() if word != "default"}
        options = [option for option in key.get("anyOf", ()) if option.get("$ref") != "#/$defs/Space"]
        values |= {"anyOf": options} if options else {}
        axes["patternProperties"][rf"^({'|'.join(PHASES)})\.{re.escape(name)}$"] = {
            "type": "array", "items": values, "minItems": 1, "uniqueItems": True, "description": key["description"],
        }  # fmt: skip
    required = {name: definitions[name].pop("required") for name in ("Phases", "Pretrain")}
    conditions = []
    for phase, name in (("pretrain", "Pretrain"), ("intermediate", "Phases"), ("target", "Phases")):
        for key in required[name]:
            axis = {"properties": {"axes": {"required": [f"{phase}.{key}"]}}}
            conditions.append({"if": {"not": axis}, "then": {"properties": {phase: {"required": [key]}}}})
    definitions["Study"]["allOf"] = conditions
