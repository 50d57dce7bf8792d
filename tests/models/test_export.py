"""Facts about exported models: what transformers loads has the logits, vectors and token ids that were trained with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from family_cases import WORDS
from published_encoders import PUBLISHED, published_tokenizer
from tiny_models import BERT, MASK, PAD, SHAPES, VOCABULARY
from torch.nn import functional
from transformers import AutoTokenizer

from sweep.data.encoded import frame, subwords
from sweep.models import modeling_linear_head
from sweep.models.batches import Batch
from sweep.models.encoders import random_encoder
from sweep.models.export import Saved, save_model, save_tokenizer
from sweep.models.heads import pool
from sweep.models.model import MultiTaskModel
from sweep.models.tokenizers import train_tokenizer
from sweep.tasks.classification import CHOICE, SEQUENCE
from sweep.tasks.masked_lm import MASKED
from sweep.tasks.question_answering import SPAN
from sweep.tasks.regression import REGRESSION
from sweep.tasks.retrieval import EMBEDDING
from sweep.tasks.table import TASKS
from sweep.tasks.tagging import TOKEN
from sweep.tasks.task import Family, Task

KINDS: dict[str, dict[str, Any]] = {
    **SHAPES,
    "electra": {"model_type": "electra", **BERT, "embedding_size": 8},
    "mpnet": {"model_type": "mpnet", **BERT},
    "eurobert": {"model_type": "eurobert", **BERT, "mask_token_id": MASK},
    "albert": {"model_type": "albert", **BERT, "embedding_size": 8},
}
POOLED = {"sequence": (SEQUENCE, ("no", "perhaps", "yes")), "regression": (REGRESSION, ()), "choice": (CHOICE, ())}
FAMILIES: dict[str, tuple[Family, tuple[str, ...]]] = {
    **POOLED,
    "token": (TOKEN, ("ADJ", "NOUN", "VERB")),
    "span": (SPAN, ()),
    "masked": (MASKED, ()),
    "embedding": (EMBEDDING, ()),
}
# Families that a plain class of the architecture is enough for, by what a text's vector is.
READING = {"token", "span", "masked", "embedding"}
OWN = {kind: {"mean": READING, "cls": set[str]()} for kind in KINDS}
OWN["deberta-v2"]["cls"] = OWN["distilbert"]["cls"] = OWN["electra"]["cls"] = {*POOLED}
OWN["eurobert"] = {"mean": {"sequence", "regression", *READING} - {"span"}, "cls": {"sequence", "regression"}}
OWN["modernbert"]["mean"] = {"masked", "embedding"}


def made(kind: str, family: str, pooling: str = "mean") -> tuple[MultiTaskModel, Task]:
    """A model whose head is far from 0, so that nothing agrees by chance."""
    of, labels = FAMILIES[family]
    task = Task("case", of, TASKS["world/nli"].source, ("en",), labels=labels)
    encoder = random_encoder(KINDS[kind], VOCABULARY, PAD, 0)
    specs = {"case": replace(of.head(labels), mask_id=MASK)}
    model = MultiTaskModel(encoder, specs, seed=1, pad_id=PAD, pooling=pooling)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return model.eval(), task


def loaded(folder: Path, saved: Saved) -> Any:
    """The model as `from_pretrained` gives it; its own code from the package, which the folder's is a copy of."""
    name = saved.auto_class.removeprefix("AutoModel")
    classes = (
        getattr(modeling_linear_head, f"LinearHead{name}")
        if saved.own_code
        else getattr(transformers, saved.auto_class)
    )
    return classes.from_pretrained(folder).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Three sequences of different length: ids, mask, and both as ours."""
    random = np.random.default_rng(5)
    lengths = torch.tensor([17, 9, 4])
    mask = torch.arange(17) < lengths[:, None]
    ids = torch.from_numpy(random.integers(5, VOCABULARY, (3, 17))).where(mask, PAD)
    return ids, mask, Batch(ids, mask, None, ids, lengths.numpy(), np.arange(4))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_loads_has_the_logits_of_what_was_trained(kind: str, pooling: str, tmp_path: Path) -> None:
    """And needs code of its own exactly where the architecture has no such head."""
    ids, mask, ours = batch()
    alone = set()
    for family in FAMILIES if pooling == "mean" else POOLED:
        model, task = made(kind, family, pooling)
        folder = tmp_path / family
        saved = save_model(model, task, folder)
        theirs, head = loaded(folder, saved), model.head("case")
        alone |= {family} if not saved.own_code else set()
        with torch.inference_mode():
            hidden = model.hidden(ours)
            options = family == "choice"
            inputs = {"input_ids": ids[None] if options else ids, "attention_mask": mask[None] if options else mask}
            output = theirs(**{name: value.long() for name, value in inputs.items()})
            if family == "embedding" or saved.auto_class == "AutoModel":
                expected, found = hidden[mask], output.last_hidden_state[mask]
            elif family == "span":
                expected, found = (
                    head(hidden)[mask],
                    torch.stack([output.start_logits, output.end_logits], dim=-1)[mask],
                )
            elif family in ("masked", "token"):
                expected, found = head(hidden)[mask], output.logits[mask]
            else:
                expected = head(pool(hidden, mask, model.pooling))
                found = output.logits[0][:, None] if options else output.logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        if task.labels:
            assert theirs.config.id2label == dict(enumerate(task.labels))
            assert theirs.config.label2id == {name: number for number, name in enumerate(task.labels)}
        if family == "regression":
            assert (theirs.config.num_labels, theirs.config.problem_type) == (1, "regression")
    assert alone == OWN[kind][pooling]


def test_a_head_of_a_users_own_is_left_out_and_the_encoder_exported_alone(tmp_path: Path) -> None:
    model, task = made("bert", "sequence")
    model.head("case").__class__ = type("Mine", (type(model.head("case")),), {})
    assert save_model(model, task, tmp_path) == Saved("AutoModel", own_code=False)


def test_a_model_with_code_of_its_own_goes_on_training(tmp_path: Path) -> None:
    ids, mask, _ = batch()
    wanted = {
        "sequence": (torch.tensor([0, 2, 1]), functional.cross_entropy),
        "regression": (torch.tensor([[0.5], [1.0], [-1.0]]), functional.mse_loss),
        "choice": (torch.tensor([1]), functional.cross_entropy),
    }
    for family, (labels, loss) in wanted.items():
        model, task = made("bert", family)
        theirs = loaded(tmp_path / family, save_model(model, task, tmp_path / family))
        inputs = (ids[None], mask[None].long()) if family == "choice" else (ids, mask.long())
        output = theirs(*inputs, labels=labels.squeeze(-1) if family == "regression" else labels)
        torch.testing.assert_close(output.loss, loss(output.logits, labels))
        output.loss.backward()
        assert theirs.classifier.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [*PUBLISHED, "trained wordpiece", "trained bpe", "trained wordlevel"])
def test_the_saved_tokenizer_reads_texts_and_pairs_as_they_were_encoded(name: str, tmp_path: Path) -> None:
    texts = [" ".join(WORDS[start : start + 7]) for start in range(0, 100, 7)]
    tokenizer = train_tokenizer(texts, 150, name.split()[1]) if "trained" in name else published_tokenizer(name, texts)  # type: ignore[arg-type]
    encoder = random_encoder(
        SHAPES["bert" if name in ("mbert", "electra") else "xlm-roberta"], len(tokenizer), tokenizer.pad_token_id, 0
    )
    model = MultiTaskModel(encoder, {}, seed=0, pad_id=tokenizer.pad_token_id)
    save_tokenizer(model, tokenizer, 24, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 24
    rows = [
        {"text": text, "pair": other, "label": 0}
        for text, other in zip(texts, [None, *texts[3:], *texts[:2]], strict=True)
    ]
    for row, sequence in zip(rows, SEQUENCE.encode(rows, tokenizer, 24), strict=True):
        found = theirs(row["text"], row["pair"], truncation=True)
        assert found["input_ids"] == sequence.tokens
        segments = sequence.segments if model.reads_segments else None
        assert found.get("token_type_ids") == segments
    assert subwords(theirs, texts) == subwords(tokenizer, texts)
    assert frame(theirs, pair=True).gaps == frame(tokenizer, pair=True).gaps
