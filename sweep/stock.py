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

    def learn(self, key: str) -> None:
        """Something was committed under this key: look again."""
        self._weights.pop(key, None)
        self._scores.pop(key, None)

    def has_score(self, key: str) -> bool:
        if key not in self._scores:
            self._scores[key] = self.store.score(key) is not None
        return self._scores[key]

    def has_weights(self, key: str) -> bool:
        if key not in self._weights:
            self._weights[key] = self.store.has_weights(key)
        return self._weights[key]

    def to_train(self, chain: Chain) -> tuple[Phase, ...]:
        """The phases after the last one whose weights are there; none where the chain is scored already."""
        if self.has_score(chain.score):
            return ()
        for index in reversed(range(len(chain.phases))):
            if self.has_weights(chain.phases[index].key):
                return chain.phases[index + 1 :]
        return chain.phases

    def dev_score(self, chain: Chain) -> float | None:
        """English dev score of a finished chain's last phase; None where nothing is trained."""
        record = self.store.phase(chain.phases[-1].key) if chain.phases else None
        return record.dev_score if record is not None else None
