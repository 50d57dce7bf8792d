"""Facts about training an encoder on pairs: wrong answers of the batch, equal texts, learning a translation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import FIRST_WORD, HEADS, PAD, tiny_model

from sweep.data.encoded import Encoded, EncodedSequence, from_sequences
from sweep.models.batches import DeviceData
from sweep.models.heads import TEMPERATURE, VectorHead
from sweep.models.model import MultiTaskModel
from sweep.tasks import FAMILIES
from sweep.tasks.retrieval import EMBEDDING
from sweep.train.data import Mixture, Stream
from sweep.train.loop import FitSettings, fit
from sweep.train.score import score_all

HALF = 27  # a word and its translation are so many ids apart


def pairs(count: int, seed: int) -> Encoded:
    """Sentences and their word by word translations into the other half of the vocabulary."""
    draw = np.random.default_rng(seed)
    sequences = []
    for number in range(count):
        words = draw.integers(FIRST_WORD, FIRST_WORD + HALF, size=draw.integers(3, 9))
        sequences.append(EncodedSequence(words.tolist(), number))
        sequences.append(EncodedSequence((words + HALF).tolist(), number, [number]))
    return from_sequences(sequences)


def accuracy(model: MultiTaskModel, encoded: Encoded) -> float:
    outputs = score_all(model, {"dev": encoded}, "embedding", batch_tokens=999)["dev"]
    rows = [{"text": "", "pair": ""}] * encoded.examples
    return float(np.mean(np.array(EMBEDDING.predict(outputs, encoded, rows, ())) == np.arange(encoded.examples)))


def test_fitting_pairs_learns_to_find_translations_of_sentences_not_seen():
    model, dev = tiny_model(families=("embedding",)), pairs(60, seed=1)
    before = accuracy(model, dev)
    mixture = Mixture((Stream("embedding", pairs(400, seed=0)),), batch_tokens=500, seed=0)
    losses = [float(step.loss) for step in fit(model, mixture, FitSettings(learning_rate=5e-3, steps=80, seed=0))]
    assert before < 0.2
    assert accuracy(model, dev) > 0.6
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def loss_of(encoded: Encoded) -> torch.Tensor:
    model = tiny_model(families=("embedding",)).eval()
    return model.loss(DeviceData(encoded, "cpu", PAD).batch(np.arange(encoded.examples)), "embedding")


def test_the_loss_is_a_softmax_over_the_cosines_of_the_batch():
    encoded, model = pairs(7, seed=3), tiny_model(families=("embedding",)).eval()
    vectors = torch.from_numpy(score_all(model, {"x": encoded}, "embedding", batch_tokens=999)["x"].array).double()
    units = vectors / vectors.norm(dim=1, keepdim=True)
    logits = units[0::2] @ units[1::2].T / TEMPERATURE
    expected = -(logits.diagonal() - logits.logsumexp(dim=1)).sum()
    assert loss_of(encoded).item() == pytest.approx(expected.item(), rel=1e-3)


def test_pairs_of_equal_text_are_no_wrong_answers_of_each_other():
    """Two copies of one pair have no wrong answer between them: nothing is left to lose."""
    pair = pairs(1, seed=0)
    words, translation = pair.tokens[: pair.bounds[1]].tolist(), pair.tokens[pair.bounds[1] :].tolist()

    def twice(names: tuple[int, int]) -> Encoded:
        return from_sequences(
            EncodedSequence(tokens, number, targets)
            for number, name in enumerate(names)
            for tokens, targets in ((words, []), (translation, [name]))
        )

    assert loss_of(twice((5, 5))).item() == pytest.approx(0)
    assert loss_of(twice((5, 6))).item() == pytest.approx(2 * np.log(2), rel=1e-3)


def test_bf16_vectors_make_no_bf16_logits():
    """Under autocast the loss of given hidden states is that of full precision."""
    encoded = pairs(16, seed=5)
    batch = DeviceData(encoded, "cpu", PAD).batch(np.arange(16))
    hidden = torch.randn(*batch.input_ids.shape, 16, generator=torch.Generator().manual_seed(0))
    head = VectorHead("mean")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = head.loss(hidden, batch)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, head.loss(hidden, batch))


def test_a_ranking_task_is_trained_as_an_embedding_task_is():
    assert FAMILIES["ranking"].head(()) == FAMILIES["embedding"].head(()) == HEADS["embedding"]
