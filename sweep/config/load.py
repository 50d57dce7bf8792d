"""Reader of study files, which reports every mistake in one line: YAML path, what was found, what is expected.

YAML 1.2: `no` is Norwegian and `1e-5` is a number. The keys of a study are in sweep.config.study.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Tag, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

from sweep import __version__
from sweep.config.axes import KEYS
from sweep.config.phases import PhaseSettings
from sweep.config.spaces import TUNED, Space
from sweep.config.study import Budget, Study
from sweep.config.values import as_budget
from sweep.errors import StudyError, nearest


def load(path: Path, text: str | None = None) -> Study:
    """Study of a file, or of a text in its place. Raises StudyError: the first mistake, which carries all others."""
    return parse(read(path) if text is None else text, str(path))


def read(path: Path) -> str:
    """Text of a study file. Raises StudyError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise StudyError(path, f"no readable file ({failure})", "the path of a study file is expected") from failure


def parse(text: str, where: str) -> Study:
    """Study of a YAML text; `where` is the path of its file. Raises StudyError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML allows it: the last one counts
            content = YAML(typ="safe", pure=True).load(SURROGATES.sub(_joined, text))
    except MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        raise StudyError(place, str(failure.problem).removeprefix("found "), "YAML is expected") from None
    except (YAMLError, ValueError) as failure:
        raise StudyError(where, " ".join(str(failure).split()), "YAML is expected") from None
    if not isinstance(content, dict):
        raise StudyError(where, _found(content), "a mapping with the keys 'study' and 'axes' is expected")
    try:
        return Study.model_validate(content, context=Path(where))
    except ValidationError as failure:
        raise mistakes_of(failure, content, Study, f"{where}: ") from None


# JSON, which is YAML too, writes a character beyond U+FFFF as two escapes.
SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


def _joined(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return chr(0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00)


# What pydantic calls a type, in the words of YAML. Names in braces are pydantic's.
WORDS = {
    "missing": "a value",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "too_short": "at least one value",
    "too_long": "at most {max_length} values",
    "string_too_short": "a name",
    "string_too_long": "a name of at most {max_length} characters",
    "string_pattern_mismatch": "a name of letters, digits, '.', '_' and '-'",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number from {ge:g} on",
    "less_than_equal": "a number up to {le:g}",
}


def read_budget(text: str, place: str) -> Budget:
    """Budget of a text as in a study file. Raises StudyError at `place`."""
    try:
        return TypeAdapter(Annotated[Budget, BeforeValidator(as_budget)]).validate_python(text)
    except ValidationError as failure:
        error = failure.errors()[0]
        raise StudyError(place, repr(text), _sentence(error), error.get("ctx", {}).get("nearest")) from None


def mistakes_of(failure: ValidationError, content: Mapping[str, Any], kind: Any, where: str) -> StudyError:
    """First mistake with the further ones, one for each place; mistyped keys before values missing because of them.

    `kind` is the type that `content` was validated as, and `where` what stands before the paths inside of it, such as
    `study.yaml: ` or `study.yaml: tasks.topics.`.
    """
    errors = sorted(map(_unfolded, failure.errors()), key=lambda error: error["type"] != "extra_forbidden")
    places = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
    meant = [(*place, nearest(str(name), _known_keys(kind, tuple(place)))) for *place, name in places]
    by_place = dict[str, StudyError]()
    for error in errors:
        if error["type"] != "missing" or error["loc"] not in meant:
            mistake = _mistake(error, content, kind, where)
            by_place.setdefault(mistake.where, mistake)
    first, *further = by_place.values()
    first.further = tuple(further)
    return first


def _mistake(error: ErrorDetails, content: Mapping[str, Any], kind: Any, where: str) -> StudyError:
    loc, context = error["loc"], error.get("ctx", {})
    if error["type"] == "invalid_key" or loc[-1:] == ("[key]",):
        place = yaml_path([str(part) for part in loc if part != "[key]"])
        return StudyError(where + place, f"the key {_found(error['input'])}", "text as a key is expected")
    path, value = _existing(content, loc)
    place = where + yaml_path(path) if path else where.rstrip(" .:")
    if error["type"] == "extra_forbidden":
        known = list(_known_keys(kind, loc[:-1]))
        expected, hint = f"one of {', '.join(known)} is expected", nearest(str(loc[-1]), known)
        if hint is None and path[:-1] == ["axes"] and loc[-1] in KEYS:
            hint = f"target.{loc[-1]}"
        if hint is None:
            expected += f"; this is version {__version__}, and a later one may know it"
        return StudyError(place, f"the unknown key {loc[-1]!r}", expected, hint)
    if error["type"] == "missing":
        expected = f"the key {loc[-1]!r}" if isinstance(loc[-1], str) else "one more value"
        return StudyError(place, "nothing", f"{expected} is expected{_meaning(kind, loc)}")
    hint = context.get("nearest")
    if error["type"] == "literal_error":
        hint = nearest(str(error["input"]), re.findall(r"'([^']+)'", str(context.get("expected", ""))))
    meaning = _meaning(kind, loc) if error["type"] in ("tuple_type", "dict_type") else ""
    found = context.get("found") or _found(value)[:200]
    return StudyError(place, found, _sentence(error) + meaning, hint)


def _unfolded(error: ErrorDetails) -> ErrorDetails:
    """Error inside a phase's overrides, with its own path there."""
    if error["type"] != "override":
        return error
    context = error["ctx"]
    inner: ErrorDetails = context["error"]
    return {**inner, "loc": (*error["loc"], "overrides", context["task"], *inner["loc"])}


def _found(value: object) -> str:
    return "nothing" if value is None else "an empty list" if value == [] else repr(value)


def _sentence(error: ErrorDetails) -> str:
    words = WORDS.get(error["type"])
    if words is not None:
        return f"{words.format(**error.get('ctx', {}))} is expected"
    message = error["msg"].removeprefix("Input should be ")
    return message if "expected" in message else f"{message} is expected"


def yaml_path(place: Iterable[str | int]) -> str:
    """YAML path of a place: ('axes', 'seed', 0) -> 'axes.seed[0]'."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _existing(content: Any, place: tuple[str | int, ...]) -> tuple[list[str | int], Any]:
    """Path that is in the file, without the steps that pydantic adds for unions, and the value there."""
    path: list[str | int] = []
    for part in place:
        within = dict(enumerate(content)) if isinstance(content, list) else content
        if isinstance(within, dict) and part in within:
            content = within[part]
            path.append(part)
        elif part == place[-1] and isinstance(content, dict):
            path.append(part)
    return path, content


def _known_keys(kind: Any, place: tuple[str | int, ...]) -> Mapping[str, FieldInfo]:
    """Keys of the model at a place inside of a type."""
    for part in place:
        # Overrides are kept as plain mappings, because what they leave out is the phase's.
        kind = dict[str, PhaseSettings] if part == "overrides" else _inside(kind, part)
    model = _model(kind)
    return {key.alias or name: key for name, key in model.model_fields.items()} if model else {}


def _meaning(kind: Any, place: tuple[str | int, ...]) -> str:
    """Meaning of a key behind what is expected, where its field has a description."""
    key = _known_keys(kind, place[:-1]).get(str(place[-1]))
    return f": {meaning(key)}" if key and key.description else ""


def meaning(key: FieldInfo) -> str:
    """First sentence of a key's description, as the end of another: `The format of the files.` -> `the format ...`."""
    first = (key.description or "").partition(". ")[0].removesuffix(".")
    return first if first[:2].isupper() else first[:1].lower() + first[1:]


def _inside(kind: Any, part: str | int) -> Any:
    """Type of the value under a key of this type; of an index or the tag of a union, its own."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if (option := _tagged(kind, part)) is not None:
        return option
    model = _model(kind)
    if model is None or part not in model.model_fields:
        return kind
    field = model.model_fields[str(part)]
    return Space if TUNED in field.metadata or _is_tuned(field.annotation) else field.annotation


def _is_tuned(kind: Any) -> bool:
    """Whether an annotation such as `Annotated[int, TUNED] | None` allows a search space."""
    return TUNED in getattr(kind, "__metadata__", ()) or any(map(_is_tuned, get_args(kind)))


def _tagged(kind: Any, tag: str | int) -> Any:
    """Alternative of a union with this tag, or None."""
    if Tag(str(tag)) in getattr(kind, "__metadata__", ()):
        return get_args(kind)[0]
    within = get_args(kind) if get_origin(kind) in (Annotated, Union, UnionType) else ()
    return next((option for option in (_tagged(inside, tag) for inside in within) if option is not None), None)


def _model(kind: Any) -> type[BaseModel] | None:
    """Model in an annotation such as `Encoder | None`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((model for model in map(_model, get_args(kind)) if model), None)
