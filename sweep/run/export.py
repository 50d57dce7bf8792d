"""Trained chains of a results folder (`sweep export`): found by what they are, loaded, and written as model folders.

A chain is named by the fields of its cell and its seed, as tables write them; of a cell's candidates the winner counts.
A field in which the study has one value may be left out. A folder holds what transformers loads, a model card whose
code gives the predictions that were scored, and sweep-export.json: the mark of a folder of ours, with every recipe.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from httpx2 import HTTPError  # huggingface_hub lets the errors of its client through
from huggingface_hub import EvalResult, HfApi, ModelCardData, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from sweep.config.axes import AXES, NOTHING, cell_columns
from sweep.data.encoded import frame
from sweep.data.hub import HubSource
from sweep.errors import StoreError, StudyError, nearest
from sweep.models.export import Saved, save_model, save_tokenizer
from sweep.models.model import MultiTaskModel
from sweep.plan.facts import Facts
from sweep.plan.plan import Plan
from sweep.plan.recipe import INTERMEDIATE, PRETRAIN, TARGET, Chain, Phase, read_layers
from sweep.plan.resolve import resolve
from sweep.report.page import filled
from sweep.report.results import chain_order, labels
from sweep.report.text import FEW_EXAMPLES
from sweep.store import paths
from sweep.store.artifacts import Store, put
from sweep.store.ledger import DONE, ChainRow, Ledger, opened_to_read, study_in
from sweep.store.records import PhaseRecord, ScoreRecord
from sweep.tasks.plugins import add_folder, is_reference
from sweep.tasks.question_answering import ANSWER_TOKENS, N_BEST, QUESTION_TOKENS, STRIDE
from sweep.tasks.regression import REGRESSION
from sweep.tasks.synthetic import TASKS as EMBEDDED
from sweep.tasks.tagging import word_reading
from sweep.tasks.task import Task
from sweep.train.context import ChainContext, Event, Listener, ignore_events, model_to_score, model_with_heads, set_up
from sweep.train.phase import train_phase

FIELDS = (*cell_columns(), "seed")  # and the study's settings axes
PHASES = (PRETRAIN, INTERMEDIATE, TARGET)
MARK, CARD = "sweep-export.json", "README.md"
MADE_BY = {"made by": "sweep"}
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
ISO = re.compile("[a-z]{2,3}")  # languages that a card's metadata may name
SPDX = {"MIT": "mit", "Apache-2.0": "apache-2.0"}  # licences of the registry, as a card's metadata names them
PIPELINES = {
    "text": "text-classification", "choice": "multiple-choice", "token": "token-classification",
    "span": "question-answering", "masked": "fill-mask", "vector": "feature-extraction",
}  # fmt: skip


@dataclass(frozen=True)
class TrainedChain:
    """A chain of a results folder, and the phase of it whose weights are meant."""

    results: Path
    plan: Plan
    facts: Facts
    row: ChainRow
    seeds: tuple[ChainRow, ...]  # the chains of its cell that count, itself among them
    chain: Chain
    phase: Phase | None  # None: the encoder as it was published, of a target without a target phase
    asked: str  # kind of phase: one of PHASES

    @property
    def store(self) -> Store:
        """Store of the results folder."""
        return Store(self.results / paths.STORE)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that the model has heads for, in their order: the target, or those of the phase."""
        if self.asked == TARGET:
            return (self.plan.tasks[self.row.cell.target],)
        return tuple(self.plan.tasks[name] for name in self.phase.recipe.tasks) if self.phase else ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases that its weights went through, itself the last."""
        ended = list(self.chain.phases).index(self.phase) + 1 if self.phase else 0
        return self.chain.phases[:ended]

    @property
    def name(self) -> str:
        """Name in messages."""
        cell = self.row.cell
        name = cell.name if self.asked == TARGET else f"{cell.encoder}, {cell.label}"
        return f"{self.asked} phase of {name}, seed {self.row.seed}"

    def load(self) -> tuple[MultiTaskModel, ChainContext]:
        """Model with its heads, and the context that has its tokenizer. Raises SweepError, also of lost weights."""
        context = set_up(self.chain, self.plan, self.store)
        if self.phase is not None and not self.store.has_weights(self.phase.key):
            expected = "'sweep export' with the same flags and --retrain trains them again"
            raise StoreError(f"{self.results}: {self.name}", "weights that were released after scoring", expected)
        if self.asked == TARGET:
            return model_to_score(context, self.tasks[0], self.phase), context
        assert self.phase is not None
        return model_with_heads(context, self.tasks, self.phase, self.phase), context

    def train_again(self, listener: Listener = ignore_events) -> None:
        """Trains the phase, and those before it whose weights are gone, as their recipes say; charged to the study.

        Raises StudyError where a run is at work there, SweepError where data or encoder are at fault.
        """
        store, phases = self.store, self.phases
        first = max((number for number, phase in enumerate(phases, 1) if store.has_weights(phase.key)), default=0)
        if first == len(phases):
            return
        with _locked(self.results) as ledger:
            began, attempt = time.time(), ledger.reserve(self.row.key, 0.0, time.time())

            def listen(event: Event) -> None:
                ledger.charge(self.row.key, attempt, event.flops, event.device_seconds)
                listener(event)

            try:
                context = set_up(self.chain, self.plan, store, listen, (began, time.process_time()))
                with context.commits:
                    for phase in phases[first:]:
                        train_phase(context, phase)
            finally:
                ledger.settle(self.row.key, attempt, time.time())


@contextmanager
def _locked(results: Path) -> Iterator[Ledger]:
    """Ledger of a results folder in which no run is at work meanwhile."""
    lock = FileLock(results / paths.LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(results, "a 'sweep run' at work", "wait for its end") from None
    except OSError as failure:
        raise StudyError(results, str(failure.strerror), "a folder that can be written is expected") from failure
    ledger = Ledger(results / paths.LEDGER)
    try:
        yield ledger
    finally:
        ledger.close()
        lock.release()


def flag(name: str) -> str:
    """Option of the command line that names a field."""
    return f"--{name.replace('_', '-')}" if name in FIELDS else f"--set {name}"


def find_chain(
    results: Path,
    fields: Mapping[str, str],
    phase: str | None = None,
    file: Path | None = None,
    shown: Callable[[str], str] = flag,
) -> TrainedChain:
    """Chain of a results folder whose `fields`, some of FIELDS, have these texts.

    `phase` is the kind of phase that is meant: by default the target phase, or without a target the intermediate one.
    `file` is the study file, where it has moved since its last run; `shown` gives a field's name in
    messages. Raises SweepError: an unknown text, several chains, or none.
    """
    study = study_in(results, file)
    with opened_to_read(results / paths.LEDGER) as ledger:
        facts, rows = ledger.facts(), ledger.chains()
    asked = phase or (TARGET if "target" in fields else INTERMEDIATE)
    rows = [row for row in rows if row.selected and row.state == DONE]
    row = _only(rows, fields, asked, results, Store(results / paths.STORE), shown)
    for code in facts.plan.get("code", ()):
        add_folder((study.path.parent / code).resolve())
    plan = resolve(study, study.path, facts)
    chain = plan.chain(row.cell, row.hyperparameters, row.seed, row.candidate, row.role)
    if chain.key != row.key:
        expected = "the data and encoders of its run are expected, or a new run"
        raise StudyError(results, f"{chain.name}, which what it reads now would make another chain", expected)
    seeds = tuple(sorted((other for other in rows if other.cell.name == row.cell.name), key=chain_order))
    return TrainedChain(results, plan, facts, row, seeds, chain, _phase(chain, asked, results), asked)


def _phase(chain: Chain, asked: str, results: Path) -> Phase | None:
    """The phase that is asked for; for the target of a chain without a target phase its last one."""
    phases = {phase.kind: phase for phase in chain.phases}
    if asked == TARGET:
        return chain.phases[-1] if chain.phases else None
    if asked not in phases:
        has = ", ".join(kind for kind in PHASES if kind in phases) or "none"
        raise StudyError(f"{results}: {chain.name}", f"no {asked} phase", f"one of its phases is expected: {has}")
    return phases[asked]


def _only(
    rows: Sequence[ChainRow],
    fields: Mapping[str, str],
    asked: str,
    results: Path,
    store: Store,
    shown: Callable[[str], str],
) -> ChainRow:
    """The one row with these texts; of a phase before the target's, one of those that share it."""
    if not rows:
        raise StudyError(results, "no finished chain", "run the study until its first chain is done")
    left = rows = sorted(rows, key=chain_order)
    fields_of_all = _fields(rows)
    for name, text in fields.items():
        if name not in fields_of_all:
            expected = f"one of {', '.join(fields_of_all)} is expected"
            raise StudyError(name, "no field of a chain", expected, nearest(name, fields_of_all))
        known = _texts(rows, name)
        if not any(_same(name, text, value, known) for value in known):
            raise StudyError(shown(name), repr(text), f"one of {', '.join(known)} is expected", nearest(text, known))
        among = _texts(left, name)
        left = [row for row in left if _same(name, text, _text(row, name), known)]
        if not left:
            raise StudyError(
                shown(name), f"no finished chain with {text!r}", f"beside the others it is {' or '.join(among)}"
            )
    distinct = dict[str, ChainRow]()
    for row in left:
        distinct.setdefault(_key(row, asked, store), row)
    if len(distinct) > 1:
        distinct.pop("", None)  # without such a phase
    if len(distinct) > 1:
        raise StudyError(
            results, f"{len(distinct)} chains", f"say which one is meant: {_choices([*distinct.values()], shown)}"
        )
    return next(iter(distinct.values()))


def _fields(rows: Sequence[ChainRow]) -> list[str]:
    """FIELDS and the settings axes of a study."""
    return list(dict.fromkeys([*FIELDS, *(name for row in rows for name in row.cell.columns())]))


def _choices(rows: Sequence[ChainRow], shown: Callable[[str], str]) -> str:
    """Fields that tell the rows apart, with the texts that they may have; the target's only where the others do not."""
    known = _fields(rows)
    others = [name for name in known if name != "target"]
    alike = len({tuple(_text(row, name) for name in others) for row in rows}) < len(rows)
    texts = {name: [text for text in _texts(rows, name) if text != NOTHING] for name in (known if alike else others)}
    return "; ".join(f"{shown(name)} {' or '.join(values)}" for name, values in texts.items() if len(values) > 1)


def _key(row: ChainRow, asked: str, store: Store) -> str:
    """Key of a chain where the target phase is asked for, else of its phase of that kind, empty where it has none."""
    if asked == TARGET:
        return row.key
    records = (store.phase(key) for key in row.phases)
    return next((record.key for record in records if record is not None and record.kind == asked), "")


def _text(row: ChainRow, name: str) -> str:
    return str(row.seed) if name == "seed" else row.cell.columns().get(name, NOTHING)


def _texts(rows: Iterable[ChainRow], name: str) -> list[str]:
    """Texts of a field, each once, in the order of the chains."""
    return list(dict.fromkeys(_text(row, name) for row in rows))


def _same(name: str, given: str, text: str, known: Sequence[str]) -> bool:
    """Whether a given text means this value: tasks in any order, numbers in any form, an encoder by its label."""
    if given == text or (name == "encoder" and given == labels(known)[text]):
        return True
    return name in AXES and _value(name, given) == _value(name, text)


def _value(name: str, text: str) -> Any:
    try:
        value = AXES[name].value(text)
    except ValueError:
        return text
    return sorted(value) if isinstance(value, tuple) else value


# ---- the folder ------------------------------------------------------------------------------------------------------


def export(trained: TrainedChain, folder: Path, head: str | None = None) -> list[str]:
    """Writes a chain's model as a folder for transformers; returns lines about it.

    `head` is the task whose head it gets, where the phase has trained several. Raises SweepError, also for a folder
    with files that no earlier export has written.
    """
    replaced, task = _ours(folder), _chosen(trained, head)
    model, context = trained.load()
    unfinished, place = None, folder.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        saved = save_model(model, task, unfinished)
        length = _max_length(trained, task, context)
        save_tokenizer(model, context.reader.tokenizer, length, unfinished)
        shown = _Card(trained, task, saved, context, model.reads_segments, length)
        (unfinished / CARD).write_text(shown.text(), encoding="utf-8")
        _mark(unfinished, trained, saved, length)
        for name in replaced:
            (place / name).unlink(missing_ok=True)
        place.mkdir(exist_ok=True)
        for path in unfinished.iterdir():
            put(path, place / path.name)
    except OSError as failure:
        raise StudyError(
            folder, f"no folder that can be written ({failure.strerror})", "another one is expected"
        ) from failure
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
    return shown.lines(folder)


def _ours(folder: Path) -> list[str]:
    """Files of an earlier export in a folder, none where it is empty. Raises StudyError where it holds others alone."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return []
    try:
        content = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if all(content[name] == value for name, value in MADE_BY.items()):
            return [Path(name).name for name in content["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    expected = "a new folder, an empty one, or one that 'sweep export' has made is expected"
    raise StudyError(f"--out {folder}", "something that is not an export of ours", expected)


def _mark(folder: Path, trained: TrainedChain, saved: Saved, length: int) -> None:
    recipes = [{"key": phase.key, "kind": phase.kind, **phase.record()} for phase in trained.phases]
    content = {
        **MADE_BY, "study": trained.plan.study.study, "chain": trained.row.key, **trained.row.cell.columns(),
        "seed": trained.row.seed, "phase": trained.asked, "class": saved.auto_class, "own_code": saved.own_code,
        "max_length": length, "phases": recipes, "files": sorted([MARK, *(path.name for path in folder.iterdir())]),
    }  # fmt: skip
    (folder / MARK).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _chosen(trained: TrainedChain, head: str | None) -> Task | None:
    """Task whose head is exported; None where there are several and none was named."""
    tasks = {task.name: task for task in trained.tasks}
    if head is not None and head not in tasks:
        raise StudyError("--head", repr(head), f"one of {', '.join(tasks) or 'none'} is expected", nearest(head, tasks))
    named = [task for task in tasks.values() if not task.family.raw_text] or list(tasks.values())
    return tasks[head] if head is not None else named[0] if len(named) == 1 else None


def _max_length(trained: TrainedChain, task: Task | None, context: ChainContext) -> int:
    """Tokens of the longest sequence that was trained and scored."""
    trains = trained.phase is not None and trained.phase.recipe.kind == trained.asked
    length = trained.phase.recipe.settings.max_length if trains and trained.phase else None
    default = max(each.family.default_max_length for each in ([task] if task else trained.tasks))
    return min(length or default, context.reader.longest)


@dataclass(frozen=True)
class _Card:
    """Model card of an export: its code, what it was made of, its scores."""

    trained: TrainedChain
    task: Task | None  # whose head it has
    saved: Saved
    context: ChainContext
    segments: bool  # whether the encoder reads token type ids
    max_length: int

    def lines(self, folder: Path) -> list[str]:
        """Lines for the terminal."""
        lines = [f"{folder}: {self.trained.name}, for {self.saved.auto_class}"]
        if self.saved.own_code:
            lines.append(
                "  trust_remote_code=True loads it: its architecture has no such head; modeling_linear_head.py is there"
            )
        if self.task is None and len(self.trained.tasks) > 1:
            names = ", ".join(task.name for task in self.trained.tasks)
            lines.append(f"  the encoder alone: the phase trained {names}; --head NAME exports one with its head")
        elif self._own_head:
            lines.append(f"  the encoder alone: nobody but its task knows the head {self._own_head}")
        return lines

    def text(self) -> str:
        """Text of README.md."""
        trained = self.trained
        records = [record for phase in trained.phases if (record := trained.store.phase(phase.key)) is not None]
        score = self._score
        entry = self.context.encoder.entry
        return filled(
            "model-card.md.j2", autoescape=False,
            metadata=self._metadata(score).strip(), title=self._title, saved=self.saved, kind=self.kind,
            summary=self._summary(), architecture=self.context.encoder.name, pooling=self.context.encoder.pooling,
            question=trained.plan.study.question, code=self.code().strip(), max_length=self.max_length,
            regression=self.regression, phases=[_phase_row(record) for record in records], origin=self._origin(),
            data=list(self._data()), encoder_licence=entry.licence, scores=list(_score_rows(score)),
            thresholds=_thresholds(score),
            metric=score.metric if score else "", train_language=score.train_language if score else "",
            distrust=list(self._doubts(records, score)), command=self._command(), chain=trained.row.key,
            versions=", ".join(f"{name} {version}" for name, version in self.context.provenance["versions"].items()),
        )  # fmt: skip

    def code(self) -> str:
        """Code that gives the predictions that were scored."""
        tokenizer, encoder, score = self.context.reader.tokenizer, self.context.encoder, self._score
        space, unknown = word_reading(tokenizer)
        settings = score.settings if score else {}
        return filled(
            "model-example.py.j2", autoescape=False, kind=self.kind, auto_class=self.saved.auto_class,
            own_code=self.saved.own_code, regression=self.regression, single=frame(tokenizer, pair=False),
            pair=frame(tokenizer, pair=True), space=space, unknown=unknown, may_lack=self._may_lack(),
            segments=self.segments and frame(tokenizer, pair=True).has_segments, stride=STRIDE, n_best=N_BEST,
            question_tokens=QUESTION_TOKENS, answer_tokens=ANSWER_TOKENS, layer=read_layers(settings, encoder)[0],
            pooling=settings.get("pooling", encoder.pooling),
        )  # fmt: skip

    @property
    def kind(self) -> str:
        """Head that the folder has, of PIPELINES."""
        if self.task is None or self.saved.auto_class == "AutoModel":
            return "vector"
        return self.task.family.head(self.task.labels).head

    @property
    def regression(self) -> bool:
        """Whether its output is a number."""
        return self.kind == "text" and self.task is not None and self.task.family == REGRESSION

    @property
    def _own_head(self) -> str:
        """Name of a head of a user's own, which the folder does not have; else empty."""
        head = self.task.family.head(self.task.labels).head if self.task else ""
        return head if self.saved.auto_class == "AutoModel" and head not in ("", "vector") else ""

    @property
    def _score(self) -> ScoreRecord | None:
        """Scores of these weights; none of a phase before the target's."""
        return self.trained.store.score(self.trained.row.score) if self.trained.asked == TARGET else None

    @property
    def _title(self) -> str:
        row, (encoder,) = self.trained.row, labels([self.trained.row.cell.encoder]).values()
        steps = [row.cell.label] if row.cell.intermediate else []
        steps += [row.cell.target] if self.trained.asked == TARGET else []
        return " → ".join([encoder, *(steps or [self.trained.asked])])

    def _summary(self) -> str:
        row, study = self.trained.row, self.trained.plan.study.study
        before = f"trained on {row.cell.label}, then" if row.cell.intermediate else "without an intermediate phase,"
        ways = {
            TARGET: f"{before} {'trained on' if self._trained_target else 'read for'} {row.cell.target}",
            INTERMEDIATE: f"after its intermediate phase on {row.cell.label}",
            PRETRAIN: "after it was pretrained from random weights",
        }
        return f"The encoder {row.cell.encoder} {ways[self.trained.asked]}: seed {row.seed} of the study `{study}`."

    @property
    def _trained_target(self) -> bool:
        return self.trained.phase is not None and self.trained.phase.recipe.kind == TARGET

    def _origin(self) -> str:
        encoder = self.context.encoder
        if encoder.random:
            return f"random weights, of the configuration {encoder.config}"
        name = encoder.location if encoder.on_hub else Path(encoder.location or "").name
        commit = f" at commit {encoder.revision}" if encoder.revision else ""
        text = f", pretrained on {encoder.entry.text}" if encoder.entry.text else ""
        return f"{encoder.name} ({name}{commit}{text})" if name != encoder.name else f"{name}{commit}{text}"

    def _data(self) -> Iterator[tuple[str, ...]]:
        uses: dict[str, list[str]] = {}
        for phase in self.trained.phases:
            for name in phase.recipe.tasks:
                uses.setdefault(name, []).append(f"trains the {phase.recipe.kind} phase")
        if self.trained.asked == TARGET:
            uses.setdefault(self.trained.row.cell.target, []).append("is scored")
        for name, roles in uses.items():
            task = self.trained.plan.tasks[name]
            parts = task.source.data_sets if isinstance(task.source, HubSource) else ()
            sources = [
                f"{part.id} ({self.trained.facts.data_commit(part.data_set) or 'commit unknown'})" for part in parts
            ]
            embedded = task in EMBEDDED
            source = ", ".join(sources) or (
                "the embedded benchmark of sweep" if embedded else "files of the study's own"
            )
            terms = task.licence or ("part of sweep, Apache-2.0" if embedded else "not stated: ask its owner")
            yield name, ", ".join(dict.fromkeys(roles)), task.family.name, source, terms

    def _may_lack(self) -> bool:
        """Whether a question of the scored set has no answer: then no answer may be given."""
        task = self.task
        if task is None or PIPELINES[self.kind] != "question-answering":
            return False
        read = (
            [("test", name) for name in task.languages]
            if self.trained.asked == TARGET
            else [("dev", task.trained_in[0])]
        )
        return any(
            not row["answers"]
            for split, language in read
            for row in self.context.reader.rows(task, split, language).rows
        )

    def _metadata(self, score: ScoreRecord | None) -> str:
        """YAML of the card's head."""
        encoder, tasks = self.context.encoder, [self.trained.plan.tasks[name] for name, *_ in self._data()]
        spoken = [*(score.languages if score else ()), *(language for task in tasks for language in task.trained_in)]
        data_sets = [part.id for task in tasks if isinstance(task.source, HubSource) for part in task.source.data_sets]
        pipeline = PIPELINES[self.kind]
        data = ModelCardData(
            base_model=encoder.location if encoder.on_hub else None, datasets=list(dict.fromkeys(data_sets)) or None,
            language=[name for name in dict.fromkeys(spoken) if ISO.fullmatch(name)] or None,
            library_name="transformers", license=SPDX.get(encoder.entry.licence, "unknown"),
            metrics=[score.metric] if score else None, model_name=self._title, pipeline_tag=pipeline,
            tags=["cross-lingual transfer", "intermediate-task training"],
            eval_results=list(_eval_results(score, pipeline)) or None,
        )  # fmt: skip
        return str(data.to_yaml())

    def _doubts(self, records: Sequence[PhaseRecord], score: ScoreRecord | None) -> Iterator[str]:
        """Sentences on what weakens the model or its scores."""
        trained, row = self.trained, self.trained.row
        yield self._about_seeds(score)
        if (candidates := trained.plan.candidates(row.cell)) > 1:
            yield f"Its learning rates are the best of {candidates} that were tried, by English dev score."
        for record in records:
            yield from _doubts_of_phase(record)
        last = records[-1].dev_score if records and self._trained_target else None
        if last is not None and row.dev is not None and last != row.dev:
            yield f"Its weights were trained again: dev score {last:.4f}, that of the scored ones {row.dev:.4f}."
        if score is not None:
            yield from _doubts_of(score)
        for name in row.cell.intermediate:
            if reason := trained.plan.overlaps.get((name, row.cell.target)):
                yield f"{name} and {row.cell.target} overlap: {reason}."
        if self.task is not None and is_reference(self.task.family.name):
            yield f"What its own family, `{self.task.family.name}`, makes of the outputs is not in this folder."
        if self.kind == "vector":
            yield "`pooler_output`, where the architecture has one, was never trained; heads read the hidden states."

    def _about_seeds(self, score: ScoreRecord | None) -> str:
        seed, seeds, store = self.trained.row.seed, self.trained.seeds, self.trained.store
        if len(seeds) == 1:
            return f"It is the only seed of its chain ({seed}): how much of a score is luck nobody has measured."
        if score is None:
            return f"It is one seed, {seed}, of {len(seeds)}."
        means = ", ".join(f"{row.seed}: {_mean(store.score(row.score)):.3f}" for row in seeds)
        return f"It is one seed, {seed}, of {len(seeds)}. Means over the languages by seed: {means}."

    def _command(self) -> str:
        trained, row = self.trained, self.trained.row
        fields = {**row.cell.columns(), "seed": str(row.seed)}
        fields = {name: text for name, text in fields.items() if text != NOTHING}
        flags = [
            part
            for name, text in fields.items()
            for part in ((flag(name), text) if name in FIELDS else ("--set", f"{name}={text}"))
        ]
        flags += ["--phase", trained.asked] if trained.asked != TARGET else []
        flags += ["--head", self.task.name] if self.task and len(trained.tasks) > 1 else []
        return shlex.join(["sweep", "export", "RESULTS", *flags, "--out", "FOLDER"])


def _phase_row(record: PhaseRecord) -> tuple[str, ...]:
    recipe = record.recipe
    languages = dict.fromkeys(language for spoken in recipe["languages"] for language in spoken)
    numbers = [f"{value:.4f}" if value is not None else NOTHING for value in (record.dev_score, record.majority)]
    limit = f"at most {recipe['examples']:,} a task" if recipe["examples"] is not None else "all"
    steps = (
        f"{record.steps:,}" if record.selected_step == record.steps else f"{record.selected_step:,} of {record.steps:,}"
    )
    return (
        record.kind, " + ".join(recipe["tasks"]), ", ".join(languages), limit, steps, f"{recipe['batch_tokens']:,}",
        f"{recipe['learning_rate']:g}", recipe["schedule"], str(recipe["seed"]), *numbers,
    )  # fmt: skip


def _score_rows(score: ScoreRecord | None) -> Iterator[tuple[str, ...]]:
    for language, entry in sorted(score.languages.items()) if score else ():
        yield language, f"{entry['value']:.4f}", f"{entry['examples']:,}", f"{entry['majority']:.4f}"


def _thresholds(score: ScoreRecord | None) -> str:
    """Thresholds of a mining task's margins, by language; empty of other tasks."""
    entries = score.languages.items() if score else ()
    return ", ".join(f"{name} {entry['threshold']:.4f}" for name, entry in entries if "threshold" in entry)


def _eval_results(score: ScoreRecord | None, pipeline: str) -> Iterator[EvalResult]:
    """Entries of a card's model-index, one per language."""
    if score is None:
        return
    for language, entry in score.languages.items():
        yield EvalResult(
            task_type=pipeline, dataset_type=score.task, dataset_name=score.task, dataset_config=language,
            dataset_split="test", metric_type=score.metric, metric_value=round(entry["value"], 6),
        )  # fmt: skip


def _mean(score: ScoreRecord | None) -> float:
    values = [entry["value"] for entry in score.languages.values()] if score else []
    return sum(values) / len(values) if values else float("nan")


def _doubts_of_phase(record: PhaseRecord) -> Iterator[str]:
    if record.collapsed:
        yield f"Its {record.kind} phase learned nothing: dev is no better than the best constant answer."
    if len(record.attempts) > 1:
        yield f"Its {record.kind} phase collapsed at first, and was tried {len(record.attempts)} times."


def _doubts_of(score: ScoreRecord) -> Iterator[str]:
    few = [name for name, entry in score.languages.items() if entry["examples"] < FEW_EXAMPLES]
    if few:
        yield f"Fewer than {FEW_EXAMPLES} test examples in {', '.join(few)}: these scores are uncertain by points."
    if score.settings.get("examples") is not None:
        yield f"Scores are of a sample of at most {score.settings['examples']} test examples a language."
    if lost := [name for name, entry in score.languages.items() if entry["value"] <= entry["majority"]]:
        yield f"No better than the best constant answer in {', '.join(lost)}."
    if score.precision == "bf16":
        yield "Scores were computed in bf16; in fp32, as the code above computes, single predictions may differ."


# ---- the hub ---------------------------------------------------------------------------------------------------------


def check_push(repository: str) -> None:
    """Checks that a folder can be handed to a repository of the hub as far as this machine knows; else StudyError."""
    where = f"--push {repository}"
    if not REPOSITORY.fullmatch(repository):
        raise StudyError(where, "no name of a repository", "USER/NAME is expected")
    if constants.HF_HUB_OFFLINE:
        raise StudyError(where, "HF_HUB_OFFLINE", "the hub is asked where that is not set")
    if get_token() is None:
        raise StudyError(where, "no credentials", "log in with 'hf auth login', or set HF_TOKEN")


def push(folder: Path, repository: str) -> str:
    """Uploads an export to a repository of the hub, private where it is new; returns its address. Raises StudyError."""
    check_push(repository)
    api = HfApi()
    try:
        created = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export by sweep")
    except (HfHubHTTPError, HTTPError, HFValidationError, OSError) as failure:
        found = " ".join(str(failure).split())[:200] or type(failure).__name__
        raise StudyError(
            f"--push {repository}", f"no answer as hoped ({found})", f"{folder} is complete: push it again"
        ) from failure
    return str(created)
