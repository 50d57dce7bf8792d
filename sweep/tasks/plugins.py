"""A study's own Python: objects named `module:name`, imported from the study's folder or from sys.path.

The file of such a module is part of every key that depends on it, by its digest when it was imported. Other processes
import it from the same folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from sweep.errors import StudyError, nearest
from sweep.keys import file_digest

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
EXPECTED = "module:name is expected, of a Python file beside the study file or of an installed package"

_digests: dict[str, str] = {}  # module -> digest of its file when it was imported


def is_reference(name: str) -> bool:
    """Whether a name has the form `module:name`."""
    return ":" in name


def add_folder(folder: Path | str) -> None:
    """Appends a folder to sys.path."""
    if (name := str(folder)) not in sys.path:
        sys.path.append(name)


def imported(reference: str, where: object, folder: Path | None = None) -> Any:
    """Object that `module:name` names. Raises StudyError at `where`."""
    if not REFERENCE.fullmatch(reference):
        raise StudyError(where, repr(reference), EXPECTED)
    module_name, _, name = reference.partition(":")
    if folder is not None:
        add_folder(folder)
    module = _module(module_name, where, folder)
    if not hasattr(module, name):
        names = [names for names in vars(module) if not names.startswith("_")]
        expected = f"a name that {module.__file__} defines is expected"
        raise StudyError(where, f"{reference!r}, while {module_name} has no {name}", expected, nearest(name, names))
    return getattr(module, name)


def restored(reference: str, folder: Path | None, digest: str) -> Any:
    """The same object in another process. Raises StudyError where its file has changed since the first import."""
    value = imported(reference, f"{reference}", folder)
    if module_digest(reference.partition(":")[0]) != digest:
        raise StudyError(reference, "a file that was changed while its study runs", "run the study again")
    return value


def _module(name: str, where: object, folder: Path | None) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{name}.".startswith(f"{missing.name}."):
            raise StudyError(where, f"the module {name!r}, which needs {missing.name!r}", "install it") from missing
        names = [path.stem for path in folder.glob("*.py")] if folder is not None else []
        beside = f"in {folder} or " if folder is not None else ""
        raise StudyError(where, f"no module {name!r} {beside}on sys.path", EXPECTED, nearest(name, names)) from missing
    except Exception as fault:
        problem = f"the module {name!r}, which cannot be imported ({type(fault).__name__}: {fault})"
        raise StudyError(where, problem, "correct the module") from fault
    file = _file(module)
    beside_study = folder / f"{name.replace('.', '/')}.py" if folder is not None else file
    if beside_study is not None and beside_study.is_file() and file != beside_study.resolve():
        problem = f"the module {name!r} beside the study file, but {file or 'Python itself'} has that name, too"
        raise StudyError(where, problem, "rename your module")
    if name not in _digests:
        _digests[name] = file_digest(file) if file is not None else ""
    return module


def _file(module: ModuleType) -> Path | None:
    return Path(module.__file__).resolve() if module.__file__ else None


def digest_of(reference: str) -> str:
    """Digest of the file of `module:name`, without importing it; empty where there is no file."""
    try:
        spec = importlib.util.find_spec(reference.partition(":")[0])
    except ModuleNotFoundError:
        return ""
    return file_digest(Path(spec.origin)) if spec is not None and spec.has_location and spec.origin else ""


def code_folders() -> list[str]:
    """Folders from which a study's own Python was imported in this process."""
    return sorted({str(module_folder(name)) for name, digest in _digests.items() if digest})


def module_digest(name: str) -> str:
    """Digest of an imported module's file at the time of its import."""
    return _digests[name]


def module_folder(name: str) -> Path:
    """Folder from which an imported module can be imported again."""
    module = sys.modules[name]
    file = _file(module)
    assert file is not None
    steps = name.count(".") + (file.name == "__init__.py")
    return file.parents[steps]
