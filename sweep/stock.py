"""What a chain still needs, given what the store has. The driver asks it often, so answers are remembered."""

from __future__ import annotations

from sweep.planning.plan import Chain, Phase
from sweep.store import Store


class Stock:
    """The store's content as one process knows it; `learn` what others have finished since."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._weights: dict[str, bool] = {}
        self._scores: dict[str, bool] = {}
        self._dead_ends: dict[str, bool] = {}

    def learn(self, key: str) -> None:
        """Something was committed under this key: look again."""
        self._weights.pop(key, None)
        self._scores.pop(key, None)
        self._dead_ends.pop(key, None)

    def has_score(self, key: str) -> bool:
        if key not in self._scores:
            self._scores[key] = self.store.score(key) is not None
        return self._scores[key]

    def has_weights(self, key: str) -> bool:
        if key not in self._weights:
            self._weights[key] = self.store.has_weights(key)
        return self._weights[key]

    def dead_end(self, chain: Chain) -> Phase | None:
        """The phase that collapsed before the chain's target phase; where there is one, the chain ends with it."""
        return next((phase for phase in chain.phases if self._is_dead_end(phase.key)), None)

    def _is_dead_end(self, key: str) -> bool:
        if key not in self._dead_ends:
            record = self.store.phase(key)
            self._dead_ends[key] = record is not None and record.dead_end
        return self._dead_ends[key]

    def why_collapsed(self, phase: Phase) -> str:
        """A sentence about a dead end."""
        record = self.store.phase(phase.key)
        assert record is not None
        tries = f"{len(record.attempts)} attempts" if len(record.attempts) > 1 else "its only attempt"
        best = max((attempt["dev"] for attempt in record.attempts), default=record.dev_score)
        level = f"dev {best:.3f} at best, the best constant answer has {record.majority:.3f}"
        return f"the {record.kind} phase learned nothing in {tries} ({level})"

    def to_train(self, chain: Chain) -> tuple[Phase, ...]:
        """The phases after the last one whose weights are there; none where the chain is scored or has collapsed."""
        if self.has_score(chain.score) or self.dead_end(chain) is not None:
            return ()
        for index in reversed(range(len(chain.phases))):
            if self.has_weights(chain.phases[index].key):
                return chain.phases[index + 1 :]
        return chain.phases

    def dev_score(self, chain: Chain) -> float | None:
        """English dev score of a finished chain's last phase; None where nothing is trained."""
        record = self.store.phase(chain.phases[-1].key) if chain.phases else None
        return record.dev_score if record is not None else None
