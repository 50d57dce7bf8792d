"""A study as a run leaves it, made in seconds: a real store and a real ledger with known scores. No tests here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sweep.fingerprint import fingerprint
from sweep.ledger import DONE, FILE, ChainRow, Ledger
from sweep.store import PhaseRecord, ScoreRecord, Store

EPOCH = 1_790_000_000.0
SOURCE = "en"


@dataclass
class FinishedStudy:
    """Writes chains whose accuracy is `accuracy(encoder, intermediate, volume, target, language, seed)`."""

    folder: Path
    accuracy: Callable[[str, str, str, str, str, int], float]
    languages: Sequence[str] = (SOURCE, "de", "sw")
    examples: int = 400
    retrieval: Sequence[str] = ()  # targets without a target phase and without a source language
    collapsed: Sequence[tuple[str, str]] = ()  # (intermediate, target)
    clock: float = field(default=EPOCH)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.folder / "store")
        self.ledger = Ledger(self.folder / FILE)

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
    ) -> ChainRow:
        """One chain through the public write calls of store and ledger."""
        volume = "-" if intermediate == "none" else volume
        names = (encoder, intermediate, volume, target)
        rates = dict.fromkeys(("intermediate", "target"), 0.0001 * (1 + candidate))
        spent, phases, parent = 1.0, [], None
        for kind in (("intermediate",) if intermediate != "none" else ()) + (
            () if target in self.retrieval else ("target",)
        ):
            task = intermediate if kind == "intermediate" else target
            parent = fingerprint([kind, encoder, task, volume, seed, candidate, parent])
            spent += self._phase(
                parent, phases[-1] if phases else None, kind, task, rates[kind], seed, (intermediate, target)
            )
            phases.append(parent)
        score = fingerprint(["score", *names, seed, candidate])
        self._score(score, phases[-1] if phases else None, names, seed)
        key, started = fingerprint(["chain", *names, seed, candidate]), self.clock
        role = "candidate" if seed == 0 else "replica"
        row = ChainRow(
            key, "/".join(names), *names, seed, candidate, role, selected, rates, tuple(phases), score, "running", None,
            0.0, 0.0, started, None,
        )  # fmt: skip
        self.ledger.open_chain(row)
        attempt = self.ledger.reserve(key, 100.0, started)
        self.clock += spent
        self.ledger.charge(key, attempt, 1e12 * spent, spent)
        self.ledger.settle(key, attempt, self.clock)
        dev = self.accuracy(*names, SOURCE, seed) - 0.01 * candidate
        self.ledger.close_chain(key, state, dev, self.clock, "" if state == DONE else "it broke")
        return row

    def chains(self) -> list[ChainRow]:
        return self.ledger.chains()

    def _phase(
        self, key: str, parent: str | None, kind: str, task: str, rate: float, seed: int, where: tuple[str, str]
    ) -> float:
        """Commits the phase and returns its device-seconds; 0 where the store has it."""
        if self.store.phase(key):
            return 0.0
        seconds, steps = (30.0 if kind == "intermediate" else 10.0), 40
        at = [self.clock + seconds * step / steps for step in range(1, steps + 1)]
        noise = np.random.default_rng(int(key[:8], 16)).normal(0, 0.02, steps)
        losses = [0.3 + 1.1 * math.exp(-step / 12) + float(noise[step - 1]) for step in range(1, steps + 1)]
        curve = [
            {"step": step, "loss": loss, "tokens": 512.0 * step, "time": time}
            for step, (loss, time) in enumerate(zip(losses, at, strict=True), start=1)
        ]
        collapsed = where in self.collapsed and kind == "target"
        final = 0.5 if collapsed else 0.8 + float(noise[0])
        dev = [{"step": s, "value": 0.5 + (final - 0.5) * s / steps, "time": at[s - 1]} for s in range(8, steps + 1, 8)]
        record = PhaseRecord(
            key, kind, parent, {"tasks": [task], "learning_rate": rate, "seed": seed}, curve, dev, final, 0.5,
            collapsed, steps, steps, 512 * steps, 16 * steps, 1e12 * seconds, seconds, self.clock, self.clock + seconds,
            {"torch": "2.13.0", "python": "3.12"}, {},
        )  # fmt: skip
        weights = self.store.scratch(key) / "model.safetensors"
        weights.write_bytes(key.encode())
        self.store.commit_phase(record, {weights.name: weights})
        return seconds

    def _score(self, key: str, phase: str | None, names: tuple[str, str, str, str], seed: int) -> None:
        target = names[-1]
        languages = [name for name in self.languages if target not in self.retrieval or name != SOURCE]
        statistics, entries = {}, {}
        for language in languages:
            wanted = min(max(self.accuracy(*names, language, seed), 0.0), 1.0)
            # The same examples are the hard ones in every run, as in life, so the arms of a comparison are correlated.
            hardness = np.random.default_rng(int(fingerprint([target, language])[:8], 16)).random(self.examples)
            own = np.random.default_rng(int(fingerprint([key, language])[:8], 16)).random(self.examples)
            right = np.argsort(np.argsort(0.7 * hardness + 0.3 * own)) < round(wanted * self.examples)
            statistics[language] = np.stack([right, np.ones(self.examples)], axis=1).astype(np.float64)
            entries[language] = {"value": float(right.mean()), "examples": self.examples, "majority": 0.5}
        family = "embedding" if target in self.retrieval else "sequence"
        source = None if target in self.retrieval else SOURCE
        started = self.clock
        record = ScoreRecord(
            key, phase, target, family, "accuracy", source, {}, entries, 5e11, 1.0, started, started + 1.0, {}
        )  # fmt: skip
        self.store.commit_score(record, statistics)
