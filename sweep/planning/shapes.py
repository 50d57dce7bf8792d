"""Where an encoder comes from, what identifies it, and its shape as far as a plan knows it. Loads no weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sweep.errors import StudyError, nearest
from sweep.fingerprint import KEY_LENGTH, file_digest, fingerprint
from sweep.planning.architecture import KNOWN, Shape, shape_of
from sweep.planning.spec import Encoder

# A file above this size is sampled: hashing a month's checkpoints for every plan would make the plan slow, and no
# training step leaves any block of the weights as it was.
WHOLE_FILE_BYTES = 8 << 20
SAMPLED_BLOCKS = 64
BLOCK_BYTES = 64 << 10


@dataclass(frozen=True)
class EncoderSource:
    """An encoder as the plan sees it."""

    name: str
    location: str | None  # hub id or folder; None: random weights
    shape: Shape
    digest: str  # what stands for the published weights in keys
    revision: str | None = None  # commit of a hub encoder; None until it was resolved
    config: str | None = None  # random weights: JSON of the configuration
    text: str | None = None  # random weights: the task whose text trains the tokenizer
    vocab_size: int = 0
    algorithm: str = ""
    pooling: str = "mean"

    @property
    def random(self) -> bool:
        return self.location is None

    @property
    def on_hub(self) -> bool:
        return self.location is not None and not Path(self.location).is_dir()

    def at(self, revision: str) -> EncoderSource:
        """The same hub encoder at a commit."""
        return replace(self, revision=revision, digest=fingerprint({"hub": self.location, "revision": revision}))


def encoder_source(
    name: str, described: Encoder | None, base: Path, text_digest: str | None, where: str
) -> EncoderSource:
    """Looks an encoder up: described in the study, a folder relative to the study file, or a well-known hub id.

    `text_digest` identifies the text that a tokenizer is trained on. Raises StudyError.
    """
    if described is not None and described.random_init is not None:
        return _random(name, described, text_digest, where)
    location = described.path if described is not None and described.path else name
    pooling = described.pooling if described is not None else "mean"
    folder = (base / location).resolve()
    if folder.is_dir():
        return EncoderSource(
            name, str(folder), _shape_of_folder(folder, where), _folder_digest(folder), pooling=pooling
        )
    if location not in KNOWN and not _looks_like_hub_id(location, described):
        wanted = "a name under 'encoders', a folder with a model, or a hub id such as " + ", ".join(KNOWN)
        raise StudyError(where, f"the encoder {location!r}", f"{wanted} is expected", nearest(location, KNOWN))
    shape = KNOWN.get(location, KNOWN["FacebookAI/xlm-roberta-base"])
    source = EncoderSource(name, location, shape, fingerprint({"hub": location, "revision": None}), pooling=pooling)
    return source.at(described.revision) if described is not None and described.revision else source


def _looks_like_hub_id(location: str, described: Encoder | None) -> bool:
    # A bare name on the axis is far more often a mistyped key than one of the hub's old ids without an owner.
    parts = location.split("/")
    return len(parts) == 2 and all(parts) and not location.startswith((".", "~")) and described is not None


def _random(name: str, described: Encoder, text_digest: str | None, where: str) -> EncoderSource:
    assert described.random_init is not None
    assert described.tokenizer is not None
    config, tokenizer = described.random_init, described.tokenizer
    shape = shape_of({**config, "vocab_size": tokenizer.vocab_size, "pad_token_id": 0}, where)
    identity = {"config": config, "tokenizer": tokenizer.model_dump(), "text": text_digest}
    return EncoderSource(
        name, None, shape, fingerprint(identity), config=json.dumps(config, sort_keys=True), text=tokenizer.text,
        vocab_size=tokenizer.vocab_size, algorithm=tokenizer.algorithm, pooling=described.pooling,
    )  # fmt: skip


def _shape_of_folder(folder: Path, where: str) -> Shape:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise StudyError(
            where, f"the folder {folder} ({failure})", "a model folder with config.json is expected"
        ) from None
    return shape_of(config, where)


@cache
def _folder_digest(folder: Path) -> str:
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in {".json", ".safetensors", ".txt", ".model"} and path.is_file()
    )
    return fingerprint({name: _file_identity(folder / name) for name in names})


def _file_identity(path: Path) -> str:
    size = path.stat().st_size
    if size <= WHOLE_FILE_BYTES:
        return file_digest(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for block in range(SAMPLED_BLOCKS):
            stream.seek((size - BLOCK_BYTES) * block // (SAMPLED_BLOCKS - 1))
            digest.update(stream.read(BLOCK_BYTES))
    return digest.hexdigest()[:KEY_LENGTH]
