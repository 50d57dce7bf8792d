"""Where an encoder comes from, what identifies it, and its shape as far as a plan knows it. Loads no weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sweep.config.study import Encoder
from sweep.errors import StudyError, nearest
from sweep.identity import KEY_LENGTH, file_digest, fingerprint
from sweep.models.registry import CHECKPOINTS, GUESS, SEED, UNKNOWN, Checkpoint, Shape, checkpoint, hub_ids, shape_of

# A file above this size is sampled: hashing a month's checkpoints for every plan would make the plan slow, and no
# training step leaves any block of the weights as it was.
WHOLE_FILE_BYTES = 8 << 20
UNREAD = {".md", ".h5", ".msgpack", ".ot", ".onnx"}  # of an encoder's folder: words, weights of other frameworks
SAMPLED_BLOCKS = 64
BLOCK_BYTES = 64 << 10


@dataclass(frozen=True)
class EncoderSource:
    """An encoder as the plan sees it.

    Where each seed has its own checkpoint, what stands here is the first seed's, and `of(seed)` has the others.
    """

    name: str
    location: str | None  # hub id or folder; None: random weights
    shape: Shape
    digest: str  # what stands for the published weights in keys
    revision: str | None = None  # commit of a hub encoder; None until it was resolved
    config: str | None = None  # random weights: JSON of the configuration
    text: str | None = None  # random weights: the task whose text trains the tokenizer
    vocab_size: int = 0
    algorithm: str = ""
    pooling: str = "mean"  # of token vectors into one of the text, in heads
    known: Checkpoint = UNKNOWN  # its entry in the registry
    guessed: bool = False  # the shape is that of GUESS: nobody has read this encoder's configuration yet
    by_seed: tuple[tuple[int, EncoderSource], ...] = ()  # empty: one checkpoint for all seeds

    def of(self, seed: int) -> EncoderSource:
        """The checkpoint that the chains of a seed begin from."""
        return next((source for own, source in self.by_seed if own == seed), self)

    @property
    def checkpoints(self) -> tuple[EncoderSource, ...]:
        """All that the study may load."""
        return tuple(source for _, source in self.by_seed) or (self,)

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
    name: str, described: Encoder | None, base: Path, text_digest: str | None, seeds: Sequence[int], where: str
) -> EncoderSource:
    """Looks an encoder up: described in the study, shipped, a folder relative to the study file, or a hub id.

    `text_digest` identifies the text that a tokenizer is trained on. Raises StudyError.
    """
    if described is not None and described.random_init is not None:
        return _random(name, described, text_digest, where)
    told, known = _told(name, described), registered(name, described)
    if unknown := next((found for found in re.findall(r"\{[^{}]*\}", told) if found != SEED), None):
        raise StudyError(where, f"{unknown} in the path {told!r}", f"{SEED} alone stands for something there")
    pattern = known.folder or told
    if SEED not in pattern:
        return _published(name, pattern, described, base, where)
    places = {seed: pattern.replace(SEED, str(seed)) for seed in seeds}
    there = [seed for seed, place in places.items() if (base / place).is_dir()]
    if (there or known.folder) and (lacking := [seed for seed in seeds if seed not in there]):
        found = f"no folder {str((base / places[lacking[0]]).resolve())!r}"
        raise StudyError(where, found, f"with {told!r} one for every seed of axes.seed is expected")
    return per_seed({seed: _published(name, place, described, base, where) for seed, place in places.items()}, where)


def registered(name: str, described: Encoder | None) -> Checkpoint:
    """The registry's entry of an encoder of the axis; UNKNOWN where it has none."""
    random = described is not None and described.random_init is not None
    return UNKNOWN if random else checkpoint(_told(name, described))


def _told(name: str, described: Encoder | None) -> str:
    return (described.path if described is not None else None) or name


def per_seed(checkpoints: Mapping[int, EncoderSource], where: str) -> EncoderSource:
    """One encoder of which every seed has a checkpoint of its own. Raises StudyError where they differ in shape."""
    (_, first), *others = checkpoints.items()
    for seed, source in others:
        if source.shape != first.shape:
            found = f"{source.location} of seed {seed}, which has another shape than {first.location}"
            raise StudyError(where, found, "checkpoints that differ in their training alone are expected")
    return replace(first, by_seed=tuple(checkpoints.items()))


def _published(name: str, location: str, described: Encoder | None, base: Path, where: str) -> EncoderSource:
    known = registered(name, described)
    pooling = (described.pooling if described is not None else None) or known.pooling
    folder = (base / location).resolve()
    if folder.is_dir():
        return EncoderSource(
            name, str(folder), _shape_of_folder(folder, where), _folder_digest(folder), pooling=pooling, known=known
        )
    if known.shape is None and not _looks_like_hub_id(location, described):
        wanted = "a name under 'encoders', a folder with a model, or a hub id such as " + ", ".join(hub_ids())
        hint = nearest(location, CHECKPOINTS)
        raise StudyError(where, f"the encoder {location!r}", f"{wanted} is expected", hint)
    shape = known.shape or checkpoint(GUESS).shape
    assert shape is not None
    digest = fingerprint({"hub": location, "revision": None})
    guessed = known.shape is None
    source = EncoderSource(name, location, shape, digest, pooling=pooling, known=known, guessed=guessed)
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
        vocab_size=tokenizer.vocab_size, algorithm=tokenizer.algorithm,
        pooling=described.pooling or UNKNOWN.pooling,
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


def _folder_digest(folder: Path) -> str:
    paths = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "." and path.suffix not in UNREAD]
    states = ((path, path.stat()) for path in paths)
    return fingerprint({path.name: _file_identity(path, state.st_size, state.st_mtime_ns) for path, state in states})


@cache
def _file_identity(path: Path, size: int, _changed: int) -> str:
    """Cached per state of the file."""
    if size <= WHOLE_FILE_BYTES:
        return file_digest(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for block in range(SAMPLED_BLOCKS):
            stream.seek((size - BLOCK_BYTES) * block // (SAMPLED_BLOCKS - 1))
            digest.update(stream.read(BLOCK_BYTES))
    return digest.hexdigest()[:KEY_LENGTH]
