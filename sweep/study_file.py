"""Reads a study file and says what is wrong with it: one line with the YAML path, what was found and what would do.

YAML 1.2: `no` is Norwegian and `1e-5` is a number. What may stand in a study is in spec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sweep.errors import StudyError, nearest
from sweep.spec import Study, sentence, yaml_path


def load(path: Path) -> Study:
    """Reads a study file. Raises StudyError: one line with the place, what was found and what would do."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise StudyError(path, f"no readable file ({failure})", "the path of a study file is expected") from failure
    return parse(text, str(path))


def parse(text: str, where: str) -> Study:
    """Reads a study from YAML text; `where` names the file in errors."""
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        raise StudyError(place, f"{failure.problem}", "YAML is expected") from None
    except (YAMLError, ValueError) as failure:
        raise StudyError(where, " ".join(str(failure).split()), "YAML is expected") from None
    if not isinstance(content, dict):
        raise StudyError(where, f"a {type(content).__name__}", "a mapping with the keys 'study' and 'axes' is expected")
    try:
        return Study.model_validate(content)
    except ValidationError as failure:
        raise _study_error(failure, content, where) from None


def _study_error(failure: ValidationError, content: Mapping[str, Any], where: str) -> StudyError:
    # A mistyped key is also a missing one: say the mistake, not its consequence.
    error = min(failure.errors(), key=lambda error: error["type"] != "extra_forbidden")
    place = _existing(content, error["loc"])
    more = f" ({failure.error_count() - 1} more after this one)" if failure.error_count() > 1 else ""
    found = "nothing" if error["type"] == "missing" else repr(error["input"])
    hint = error.get("ctx", {}).get("nearest")
    if error["type"] == "extra_forbidden":
        known = _fields_at(place[:-1])
        found, hint = f"the unknown key {place[-1]!r}", nearest(str(place[-1]), known)
        return StudyError(f"{where}: {yaml_path(place)}", found, f"one of {', '.join(known)} is expected{more}", hint)
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
        hint = nearest(str(error["input"]), choices)
    return StudyError(f"{where}: {yaml_path(place)}", found[:200], sentence(error) + more, hint)


def _existing(content: Any, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """`place` without the steps that pydantic adds for unions, which are not in the file."""
    path: list[str | int] = []
    for part in place:
        inside = (isinstance(content, dict) and part in content) or (
            isinstance(content, list) and isinstance(part, int)
        )
        if inside and not (isinstance(content, list) and isinstance(part, int) and part >= len(content)):
            content = content[part]
            path.append(part)
        elif part == place[-1] and isinstance(content, dict):
            path.append(part)
    return tuple(path)


def _fields_at(place: tuple[str | int, ...]) -> list[str]:
    """Keys that the model at this place knows."""
    model: Any = Study
    for part in place:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = [_model_in(argument) for argument in getattr(annotation, "__args__", ())]
    return next((model for model in inside if model is not None), None)
