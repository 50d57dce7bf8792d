"""Writes the encoders of a finished pretraining study as model folders: `make encoders`.

    python tools/ship_encoders.py sweep/encoders/world-tiny/pretraining.yaml

puts `seed-0`, `seed-1`, ... beside the study file: configuration, tokenizer, and a masked language model's weights in
half precision, which is exact from then on, since every phase reads them into fp32. The weights are those of the phase
`pretrain` in the study's results.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from sweep.config.load import load
from sweep.models.encoders import configuration
from sweep.models.tokenizers import load_tokenizer
from sweep.plan.recipe import Chain
from sweep.plan.resolve import resolve
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import results_of

auto_model: Any = AutoModelForMaskedLM  # carries no types
# The parts of our masked head, as BERT calls them; its decoder is the input embeddings.
HEAD = {
    "transform.weight": "cls.predictions.transform.dense.weight",
    "transform.bias": "cls.predictions.transform.dense.bias",
    "norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "bias": "cls.predictions.bias",
}


def main() -> None:
    """Writes a folder per seed beside the study file."""
    path = Path(sys.argv[1])
    plan = resolve(load(path), path)
    store = Store(results_of(plan.study) / paths.STORE)
    for chain in plan.planned_chains():
        source = plan.encoders[chain.cell.encoder]
        tokenizer = load_tokenizer(str(store.root / "encoders" / source.digest))
        config = configuration(json.loads(source.config or "{}"), len(tokenizer), cast(int, tokenizer.pad_token_id))
        model = auto_model.from_config(config)
        lacking = model.load_state_dict(_weights(chain, store), strict=False)
        assert not lacking.unexpected_keys
        assert set(lacking.missing_keys) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        folder = path.parent / f"seed-{chain.seed}"
        shutil.rmtree(folder, ignore_errors=True)
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()) / 2**20:.1f} MiB, "
              f"phase {chain.phases[-1].key}, masked tokens found on dev {_dev(chain, store):.3f}")  # fmt: skip


def _weights(chain: Chain, store: Store) -> dict[str, torch.Tensor]:
    folder = store.weights(chain.phases[-1].key)
    encoder = {f"bert.{name}": tensor for name, tensor in load_file(folder / paths.ENCODER_WEIGHTS).items()}
    head = {HEAD[name.removeprefix("0.")]: tensor for name, tensor in load_file(folder / paths.HEAD_WEIGHTS).items()}
    return {**encoder, **head}


def _dev(chain: Chain, store: Store) -> float:
    record = store.phase(chain.phases[-1].key)
    assert record is not None
    assert record.dev_score is not None
    return record.dev_score


if __name__ == "__main__":
    main()
