"""Facts about the cut of the code: who imports whom, who imports which heavy library, what `sweep plan` leaves out."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# A module imports only from a lower layer, or from its left in its own. A new file gets its place here.
LAYERS = (
    # 0  errors and identity
    "errors fingerprint names paths plugins heartbeat terminal",
    # 1  tasks: the contract, families, encoded data, the embedded benchmark, sources, the table
    """tasks.parquet tasks.treebank tasks.files tasks.formats tasks.prediction_files tasks.base tasks.schemes
    tasks.mapping tasks.metrics tasks.subwords tasks.normalise tasks.vectors
    tasks.classify tasks.token tasks.qa tasks.retrieval tasks.mining tasks.ranking tasks.masked tasks.regression
    tasks.families
    tasks.encoding tasks.units tasks.share
    tasks.world tasks.synthetic_rows tasks.synthetic tasks.resources
    tasks.languages tasks.benchmarks
    tasks.english tasks.targets tasks.publishers
    tasks.retrieval_formats tasks.parts tasks.local tasks.hub
    tasks.described tasks.overlap tasks.check tasks.sources tasks.provided
    tasks tasks.listing""",
    # official files: written, read, scored
    """official official.layout official.archive official.scores
    official.table""",
    # 2  what the study says, what will run, what it costs
    """planning planning.notation planning.model planning.phase_settings planning.axes
    planning.spec planning.study_file planning.registry facts planning.shapes
    planning.reading planning.sources planning.groups planning.mixing planning.grids
    planning.chains planning.plan planning.sharing planning.rungs
    planning.budget planning.coverage planning.forerunners planning.summary planning.chain_budget
    planning.preview planning.data_facts planning.resolve planning.first_use planning.ledger
    planning.outdated planning.measured""",
    # 3  what is kept
    "records store stock standing data mirror tracking ui",
    # 4  training and scoring; no Ray, no store
    """training training.batching training.memory training.mixture training.cpu_kernels training.heads
    training.model training.schedule training.vocabulary training.tokenizer training.encoders training.published
    training.train training.neighbours training.scoring training.logme training.features training.probe""",
    # 5  one chain; knows no Ray
    """chain chain.meter chain.checkpoint chain.inspection chain.bench chain.dev chain.logbook chain.length
    chain.sharing chain.phase chain.retention chain.scoring_sets chain.zero_shot chain.trial chain.preview""",
    # 6  what may start, what goes on; the policies know no Ray
    "chainlog tuning cells places purse winners endings admission forecast search scheduler worker",
    # 7  the study at work, and what comes of it
    """cluster display study reporting reporting.results reporting.statistics reporting.gains reporting.retention
    reporting.preview reporting.cost reporting.text reporting.tables reporting.figures reporting.page
    reporting.submissions reporting.publish preview garbage""",
    # 8  the command line
    "cli __main__",
)

# Lazy imports inside functions count: a library has one door, or a few.
DOORS = {
    "datasets": "tasks.hub",
    "huggingface_hub": "tasks.hub planning.first_use training.encoders",
    "jinja2": "reporting.page",
    "matplotlib": "reporting.figures",
    "mlflow": "tracking",
    "optuna": "tuning",
    "pandas": """reporting.results reporting.gains reporting.retention reporting.cost reporting.text reporting.tables
    reporting.figures reporting.page reporting.preview preview""",
    "pyarrow": "tasks.encoding tasks.parquet",
    "pydantic": """planning.notation planning.model planning.phase_settings planning.axes planning.spec
    planning.study_file""",
    "rich": "terminal display",
    "ray": "search scheduler worker cluster study",
    "ruamel": "planning.study_file",
    "scipy": "reporting.statistics",
    "sqlite3": "planning.ledger",
    "tokenizers": "training.vocabulary",
    "torch": """training.batching training.memory training.cpu_kernels training.heads training.model
    training.encoders training.published training.train training.neighbours training.scoring training.features
    training.probe chain.checkpoint chain.bench chain.sharing""",
    "transformers": "training.vocabulary training.tokenizer training.encoders training.published training.model",
}

PLACE = {name: (layer, index) for layer, row in enumerate(LAYERS) for index, name in enumerate(row.split())}


def module_name(path: Path) -> str:
    """`sweep/tasks/task.py` is `tasks.base`, `sweep/tasks/__init__.py` is `tasks`, `sweep/__init__.py` is empty."""
    parts = path.relative_to(REPOSITORY / "sweep").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((REPOSITORY / "sweep").rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Full names of everything a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full, as `from sweep...`"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_module(name: str) -> str | None:
    """The module of ours that an imported name lies in: `sweep.tasks.table.FAMILIES` lies in `tasks`."""
    if name != "sweep" and not name.startswith("sweep."):
        return None
    name = name.removeprefix("sweep").removeprefix(".")
    return name if name in FILES else name.rpartition(".")[0]


@pytest.mark.parametrize("name", [name for name in FILES if name])
def test_a_module_imports_only_from_below_or_from_its_left(name):
    assert name in PLACE, f"sweep/{name.replace('.', '/')}.py has no place: add it to LAYERS in tests/test_layers.py"
    for other in {own_module(full) for full in imported(FILES[name])} - {None, ""}:
        assert other in PLACE, f"{name} imports sweep.{other}, which has no place in LAYERS of tests/test_layers.py"
        assert PLACE[other] < PLACE[name], f"{name} {PLACE[name]} imports {other} {PLACE[other]}, which is not below it"


@pytest.mark.parametrize("name", FILES)
def test_a_heavy_library_is_imported_by_its_doors_alone(name):
    for library in {full.split(".")[0] for full in imported(FILES[name])} & DOORS.keys():
        assert name in DOORS[library].split(), (
            f"{name} imports {library}: add it to DOORS in tests/test_layers.py, or not"
        )


def test_the_tables_name_no_file_that_is_gone():
    assert {*PLACE, *" ".join(DOORS.values()).split()} - FILES.keys() == set()


def test_planning_loads_no_heavy_library():
    code = "import json, sys; from sweep.plan import budget, plan, resolve; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in json.loads(process.stdout)}
    assert (
        loaded & {"torch", "ray", "mlflow", "datasets", "pandas", "transformers", "pyarrow", "optuna", "matplotlib"}
        == set()
    )
