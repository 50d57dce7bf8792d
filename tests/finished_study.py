"""A study as a run leaves it, made in seconds: a real store and a real ledger with known scores. No tests here.

`usual` is the study most facts are about: four settings, two targets, known gains.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweep.config.axes import Arm, Cell
from sweep.keys import fingerprint
from sweep.report.gains import Asked, Estimates, estimate
from sweep.report.results import read_collapsed, read_results, scores_frame
from sweep.store.artifacts import Store
from sweep.store.ledger import COLLAPSED, DONE, ChainRow, Ledger
from sweep.store.paths import LEDGER
from sweep.store.records import Activities, PhaseRecord, ScoreRecord

EPOCH = 1_790_000_000.0
SOURCE = "en"
BASE = {"en": 0.9, "de": 0.75, "sw": 0.6}
GAINS = {"none": 0.0, "nli": 0.08, "qa": -0.06, "same": 0.0, "nli+pos": 0.04}
Accuracy = Callable[[str, str, str, str, str, int], float]


def accuracy(_encoder: str, intermediate: str, _volume: str, _target: str, language: str, _seed: int) -> float:
    """The same gain in every language and on every target."""
    return BASE[language] + GAINS[intermediate]


@dataclass
class FinishedStudy:
    """Writes chains whose accuracy is `accuracy(encoder, intermediate, volume, target, language, seed)`.

    An intermediate in another language than its own is "nli in de" there.
    """

    folder: Path
    accuracy: Accuracy = accuracy
    languages: Sequence[str] = (SOURCE, "de", "sw")
    examples: int = 400
    retrieval: Sequence[str] = ()  # targets without a target phase and without a source language
    collapsed: Sequence[
        tuple[object, ...]
    ] = ()  # (intermediate, target), or one seed of it: (intermediate, target, seed)
    retention: bool = False  # whether the tasks of intermediate phases were scored again
    layers: Sequence[int] = ()  # that retrieval targets were read at
    published: bool = False  # whether predictions and labels were kept
    clock: float = field(default=EPOCH)
    of_passage: int = 1  # examples that are right or wrong together, and known to belong together
    activities: Mapping[str, float] = field(default_factory=dict)  # shares of the time of every phase and score

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.folder / "store")
        self.ledger = Ledger(self.folder / LEDGER)

    def chain(
        self,
        intermediate: str,
        target: str,
        seed: int = 0,
        *,
        encoder: str = "tiny",
        volume: str = "full",
        candidate: int = 0,
        selected: bool = True,
        state: str = DONE,
        **axes: str,
    ) -> ChainRow:
        """One chain through the public write calls of store and ledger; `axes` are texts of further columns."""
        stated = {"intermediate": intermediate, "target": target, "encoder": encoder, "volume": volume, **axes}
        cell = Cell.of({"chain_budget": "-", "source": "own", **stated})
        cell = cell.reference if cell.baseline else cell
        names = tuple(cell.columns().values())
        spoken = Arm(intermediate=cell.intermediate, source=cell.source).label
        known = (encoder, spoken, cell.text("volume"), target)
        beside = [text for name, text in axes.items() if name not in ("source", "chain_budget")]
        kinds = [*(["intermediate"] * (intermediate != "none")), *(["target"] * (target not in self.retrieval))]
        rates = dict.fromkeys(kinds, 1e-4 * (1 + candidate))
        spent, phases = 1.0, list[str]()
        for kind in kinds:
            task = known[1:3] if kind == "intermediate" else (target, "full")
            parent = phases[-1] if phases else None
            phases.append(
                fingerprint([kind, encoder, task, cell.text("chain_budget"), seed, candidate, parent, *beside])
            )
            chosen = {(intermediate, target), (intermediate, target, seed)} & set(self.collapsed)
            collapsed = kind == "target" and bool(chosen)
            spent += self._phase(phases[-1], parent, kind, task, seed, collapsed)
        score = fingerprint(["score", *names, seed, candidate])
        self._score(score, phases[-1] if phases else None, known, seed, cell.intermediate)
        key, started = fingerprint(["chain", *names, seed, candidate]), self.clock
        role = "candidate" if seed == 0 else "replica"
        row = ChainRow(
            key, cell, seed, candidate, role, selected, rates, tuple(phases), score, "running", None,
            0.0, 0.0, started, None,
        )  # fmt: skip
        self.ledger.open_chain(row)
        attempt = self.ledger.reserve(key, 100.0, started)
        self.clock += spent
        self.ledger.charge(key, attempt, 1e12 * spent, spent)
        self.ledger.settle(key, attempt, self.clock)
        dev = self.accuracy(*known, SOURCE, seed) - 0.01 * candidate
        self.ledger.close_chain(key, state, dev, self.clock, "" if state == DONE else "it broke")
        return row

    def lost(self, intermediate: str, target: str, seed: int = 0, *, selected: bool = True) -> ChainRow:
        """A chain whose intermediate phase learned nothing in three attempts: it has no target phase and no scores."""
        key = fingerprint(["lost", intermediate, seed])
        spent = self._phase(key, None, "intermediate", (intermediate, "full"), seed, True)
        cell = Cell("tiny", (intermediate,), target=target)
        names = tuple(cell.columns().values())
        row = ChainRow(
            fingerprint(["chain", *names, seed, "lost"]), cell, seed, 0,
            "candidate" if seed == 0 else "replica", selected, {"intermediate": 1e-4, "target": 1e-4},
            (key, fingerprint(["never", key])), fingerprint(["no score", *names, seed]), COLLAPSED, None, 0.0, 0.0,
            self.clock, None,
        )  # fmt: skip
        self.ledger.open_chain(row)
        self.clock += spent
        self.ledger.close_chain(row.key, COLLAPSED, None, self.clock, "the intermediate phase learned nothing")
        return row

    def chains(self) -> list[ChainRow]:
        return self.ledger.chains()

    def _phase(
        self, key: str, parent: str | None, kind: str, task: tuple[str, str], seed: int, collapsed: bool
    ) -> float:
        """Commits the phase and returns its device-seconds; 0 where the store has it."""
        if self.store.phase(key):
            return 0.0
        seconds, steps = 10.0 if kind == "target" else {"full": 30.0, "10000": 15.0}.get(task[1], 5.0), 40
        at = [self.clock + seconds * step / steps for step in range(1, steps + 1)]
        noise = np.random.default_rng(int(key[:8], 16)).normal(0, 0.02, steps)
        losses = [0.3 + 1.1 * math.exp(-step / 12) + float(noise[step - 1]) for step in range(1, steps + 1)]
        curve = [
            {"step": step, "loss": loss, "tokens": 512.0 * step, "time": time}
            for step, (loss, time) in enumerate(zip(losses, at, strict=True), start=1)
        ]
        tries = 3 if collapsed else 1
        final = 0.5 if collapsed else 0.8 + float(noise[0])
        dev = [{"step": s, "value": 0.5 + (final - 0.5) * s / steps, "time": at[s - 1]} for s in range(8, steps + 1, 8)]
        record = PhaseRecord(
            key, kind, parent, {"tasks": [task[0]], "seed": seed}, curve, dev, final, 0.5,
            collapsed, steps, steps, 512 * steps, 16 * steps, 1e12 * seconds, seconds, self.clock, self.clock + seconds,
            {"torch": "2.13.0", "python": "3.12"}, {}, attempts=[{"dev": final, "seed": n} for n in range(tries)],
            activities=self._activities(seconds),
        )  # fmt: skip
        weights = self.store.scratch(key) / "model.safetensors"
        weights.write_bytes(key.encode())
        self.store.commit_phase(record, {weights.name: weights})
        return seconds

    def _score(
        self, key: str, phase: str | None, names: tuple[str, str, str, str], seed: int, trained: tuple[str, ...]
    ) -> None:
        target = names[-1]
        languages = [name for name in self.languages if target not in self.retrieval or name != SOURCE]
        statistics, entries, passage = {}, {}, np.arange(self.examples) // self.of_passage
        for language in languages:
            wanted = min(max(self.accuracy(*names, language, seed), 0.0), 1.0)
            # The same examples are the hard ones in every run, as in life, so the arms of a comparison are correlated.
            hardness = np.random.default_rng(int(fingerprint([target, language])[:8], 16)).random(self.examples)[
                passage
            ]
            own = np.random.default_rng(int(fingerprint([key, language])[:8], 16)).random(self.examples)[passage]
            right = np.argsort(np.argsort(0.7 * hardness + 0.3 * own)) < round(wanted * self.examples)
            statistics[language] = np.stack([right, np.ones(self.examples)], axis=1).astype(np.float64)
            entries[language] = {"value": float(right.mean()), "examples": self.examples, "majority": 0.5}
        family = "embedding" if target in self.retrieval else "sequence"
        source = None if target in self.retrieval else SOURCE
        started = self.clock
        about = {"family": "sequence", "metric": "accuracy", "split": "dev", "language": SOURCE, "majority": 0.5}
        again: dict[str, dict[str, Any]] = {task: about | {"examples": self.examples} for task in trained}
        for task, head in itertools.product(again if self.retention else (), ("before", "saved_head", "fresh_head")):
            statistics[f"retention/{task}/{head}"] = statistics[languages[0]]
            again[task][head] = entries[languages[0]]["value"]
        read = self.layers if family == "embedding" else ()
        record = ScoreRecord(
            key, phase, target, family, "accuracy", source, {"layers": list(read), "pooling": "mean"} if read else {},
            entries, 5e11, 1.0, started, started + 1.0, {}, again if self.retention else {},
            self._labels(target, languages) if self.published else "",
            {str(layer): {name: entry["value"] for name, entry in entries.items()} for layer in read},
            activities=self._activities(1.0),
        )  # fmt: skip
        units = dict.fromkeys(languages, passage) if self.of_passage > 1 else {}
        self.store.commit_score(record, statistics, _archive(key, languages) if self.published else None, units)

    def _activities(self, seconds: float) -> Activities:
        """As many seconds by the clock as device-seconds."""
        shares = self.activities.items()
        return {name: dict.fromkeys(("device_seconds", "seconds"), share * seconds) for name, share in shares}

    def _labels(self, target: str, languages: Sequence[str]) -> str:
        folder = self.store.root / "labels" / fingerprint(target)
        folder.mkdir(parents=True, exist_ok=True)
        for language in languages:
            (folder / f"test-{language}.tsv").write_text("yes\n")
        described = {"family": "sequence", "labels": ["yes", "no"], "normaliser": "squad"}
        (folder / "submission.json").write_text(json.dumps(described))
        return folder.name


def _archive(key: str, languages: Sequence[str]) -> bytes:
    """Prediction files that say of which score they are."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for language in languages:
            archive.writestr(f"test-{language}.tsv", key)
    return content.getvalue()


def usual(folder: Path, known: Accuracy = accuracy, seeds: int = 3, **settings: Any) -> FinishedStudy:
    """`settings` are fields of FinishedStudy."""
    study = FinishedStudy(folder, known, **settings)
    for intermediate in ("none", "nli", "qa", "same"):
        for target in ("topic", "bitext"):
            for seed in range(seeds):
                study.chain(intermediate, target, seed)
    return study


def estimated(study: FinishedStudy, **asked: Any) -> Estimates:
    """`asked` are fields of Asked."""
    return estimate(read_results(study.chains(), study.store), study.store, Asked(**asked))


def scores(study: FinishedStudy) -> pd.DataFrame:
    """The table of scores."""
    chains, store = study.chains(), study.store
    return scores_frame("a study", read_results(chains, store), read_collapsed(chains, store))


def the_row(frame: pd.DataFrame, **names: object) -> Any:
    """The only row with these values."""
    for name, value in names.items():
        frame = frame[frame[name] == value]
    (row,) = frame.to_dict("records")
    return row
