"""Registry of encoders: one entry per model type and published checkpoint, with all that is special about them.

An encoder without an entry is described by its configuration (config.json) alone, through `shape_of`. Three things are
read from the encoder itself and need no entry: its special tokens from what its tokenizer does to a word
(data.encoded.frame), whether it takes token type ids from the signature of its forward pass (models.model), and its
masked-token head, tied or not, from the shapes of its parts, checked by its logits (models.encoders).

Loads no torch: a plan needs neither network nor weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sweep.config.study import Encoder
from sweep.errors import StudyError, nearest
from sweep.keys import KEY_LENGTH, file_digest, fingerprint

LONGEST = 8192  # tokens of a sequence; a configuration that promises more is cut to it
SHORTEST = 8  # tokens of a sequence that an encoder must be able to read
LARGEST, DEEPEST = 2**31 - 1, 1000  # sizes and numbers of layers beyond these are refused

SEED = "{seed}"  # in the path of an encoder: every seed of the study begins from a checkpoint of its own


@dataclass(frozen=True)
class ModelType:
    """Traits of all encoders of a model type of transformers; the defaults are right for an unknown one."""

    # Position ids begin at pad_token_id + 1, so a table of 514 positions holds sequences of 512 tokens.
    offset_positions: bool = False
    gated: bool = False  # feed-forward with a gate (GeGLU), three matrices instead of two
    relative_positions: bool = False  # compared in every layer (DeBERTa), where the configuration asks for them
    # The attention mask that the encoder takes. "padding": [S, L]. "ready": [S, 1, 1, L], for all layers.
    # "ready_by_kind": {full_attention, sliding_attention}, [S, 1, 1 or L, L] each. Given the padding alone,
    # transformers asks the device whether anything is masked, and so waits at every step for all that a GPU has to do.
    mask: Literal["padding", "ready", "ready_by_kind"] = "padding"
    first_token: str = "cls"  # what its `classifier_pooling`, if it has one, calls the vector of the first token


_BERT = ModelType(mask="ready")
_ROBERTA = ModelType(offset_positions=True, mask="ready")
_OFFSET = ModelType(offset_positions=True)
_GATED = ModelType(gated=True)
_DEBERTA = ModelType(relative_positions=True)
MODEL_TYPES: Mapping[str, ModelType] = {
    "bert": _BERT,
    "electra": _BERT,
    "distilbert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
    "camembert": _ROBERTA,
    "xmod": _OFFSET,
    "roberta-prelayernorm": _OFFSET,
    "data2vec-text": _OFFSET,
    "mpnet": _OFFSET,
    "longformer": _OFFSET,
    "modernbert": ModelType(gated=True, mask="ready_by_kind"),
    "eurobert": ModelType(gated=True, first_token="bos"),
    "gte": _GATED,
    "nomic_bert": _GATED,
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
}


def model_type(kind: object) -> ModelType:
    """Entry of a configuration's `model_type`; the defaults where it has none."""
    return MODEL_TYPES.get(str(kind), ModelType())


# Names of a size in configurations, in the order in which they are looked up.
HIDDEN = ("hidden_size", "dim", "d_model", "emb_dim", "n_embd")
LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer", "encoder_layers")
HEADS = ("num_attention_heads", "n_heads")
FEED_FORWARD = ("intermediate_size", "hidden_dim", "d_ff")
RELATIVE_SPAN = ("position_buckets", "max_relative_positions", "max_position_embeddings")
NORM_EPSILON = ("layer_norm_eps", "norm_eps")  # DistilBERT does not say its own
DEFAULT_EPSILON = 1e-12
DROPOUTS = (  # of hidden states and of attention; that of heads is not the encoder's own
    *("hidden_dropout_prob", "hidden_dropout", "dropout", "embedding_dropout", "mlp_dropout"),
    *("attention_probs_dropout_prob", "attention_dropout"),
    *("local_attention_probs_dropout_prob", "lsh_attention_probs_dropout_prob"),
)
HEAD_DROPOUT = ("classifier_dropout", "classifier_dropout_prob", "hidden_dropout_prob", "hidden_dropout", "dropout")


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer encoder that its FLOPs and its longest sequence depend on."""

    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int
    max_length: int  # tokens of a sequence, special tokens included
    gated: bool = False
    embedding: int = 0  # width of the token embeddings where it is not the hidden size
    key_value: int = 0  # width of keys, and of values, where heads share them
    relative: int = 0  # relative positions that a layer compares with every token (DeBERTa): both ways, both directions


@dataclass(frozen=True)
class Checkpoint:
    """Facts about a published checkpoint; by default none is known."""

    shape: Shape | None = None  # None: a configuration at hand tells it
    folder: str | None = None  # of one that comes with the package, SEED standing for the seed
    licence: str = ""
    text: str = ""  # what it was pretrained on
    languages: frozenset[str] | None = None  # of that text, by ISO 639-1 code where there is one; None: not known
    layer: int | None = None  # hidden state that retrieval reads; None: chosen by depth (plan.recipe.default_layer)
    pooling: Literal["mean", "cls"] = "mean"  # of token vectors into one of the text, where a study does not say


def _codes(names: str) -> frozenset[str]:
    return frozenset(names.split())


# The language tags of the model cards of XLM-R base, large and XL, which agree with the list of 100 languages
# (romanised text counted apart) in the repository facebookresearch/XLM.
_XLMR_LANGUAGES = _codes(
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is it"
    " ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si sk sl so sq"
    " sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh"
)
# multilingual.md of google-research/bert: the 100 largest Wikipedias, with Thai and Mongolian in the cased release.
_MBERT_LANGUAGES = _codes(
    "af an ar ast az azb ba bar be bg bn bpy br bs ca ce ceb cs cv cy da de el en es et eu fa fi fr fy ga gl gu he hi"
    " hr ht hu hy id io is it ja jv ka kk kn ko ky la lb lmo lt lv mg min mk ml mn mr ms my nb nds ne new nl nn no oc"
    " pa pl pms pnb pt ro ru scn sco sh sk sl sq sr su sv sw ta te tg th tl tr tt uk ur uz vi vo war zh yo"
)
_BASE, _LARGE = (12, 768, 3072), (24, 1024, 4096)
_XLMR: dict[str, Any] = {
    "licence": "MIT",
    "text": "2.5 TB of CommonCrawl in 100 languages",
    "languages": _XLMR_LANGUAGES,
}
_MMBERT: dict[str, Any] = {"licence": "MIT", "text": "3 trillion tokens in more than 1,800 languages"}

CHECKPOINTS: Mapping[str, Checkpoint] = {
    "FacebookAI/xlm-roberta-base": Checkpoint(Shape(*_BASE, 250_002, 512), **_XLMR),
    # XTREME's Tatoeba reads hidden_states[14] of XLM-R large and [8] of mBERT; none is published that fits XLM-R base.
    "FacebookAI/xlm-roberta-large": Checkpoint(Shape(*_LARGE, 250_002, 512), **_XLMR, layer=14),
    "facebook/xlm-roberta-xl": Checkpoint(Shape(36, 2560, 10240, 250_880, 512), **_XLMR),
    "google-bert/bert-base-multilingual-cased": Checkpoint(
        Shape(*_BASE, 119_547, 512),
        licence="Apache-2.0",
        text="the 104 largest Wikipedias",
        languages=_MBERT_LANGUAGES,
        layer=8,
    ),
    "microsoft/mdeberta-v3-base": Checkpoint(
        Shape(*_BASE, 251_000, 512, relative=2 * 512), licence="MIT", text="2.5 TB of CommonCrawl (CC-100)"
    ),
    "jhu-clsp/mmBERT-base": Checkpoint(Shape(22, 768, 1152, 256_000, 8192, gated=True), **_MMBERT),
    "jhu-clsp/mmBERT-small": Checkpoint(Shape(22, 384, 1152, 256_000, 8192, gated=True), **_MMBERT),
    "world/tiny": Checkpoint(
        folder=str(Path(__file__).parents[1] / "encoders" / "world-tiny" / f"seed-{SEED}"),
        licence="Apache-2.0",
        text="synthetic text of world/raw in seven invented languages",
    ),
}
GUESS = "FacebookAI/xlm-roberta-base"  # its shape stands for that of a hub encoder whose configuration was never read
UNKNOWN = Checkpoint()


def checkpoint(location: str) -> Checkpoint:
    """Entry of a hub id or of an encoder that comes with the package; UNKNOWN for any other."""
    return CHECKPOINTS.get(location, UNKNOWN)


def hub_ids() -> list[str]:
    """Names of the encoders on the hub that can be planned without a network."""
    return [name for name, entry in CHECKPOINTS.items() if entry.shape is not None]


def shape_of(config: Mapping[str, Any], where: str) -> Shape:
    """Shape that a configuration describes; `where` is its place in messages.

    Raises StudyError where it is not a transformer's.
    """
    expected = "a transformer's configuration is expected"

    def read(*names: str, default: int | None = None, most: int = LARGEST) -> int:
        name, value = next(
            ((name, config[name]) for name in names if config.get(name) is not None), (names[0], default)
        )
        if value is None:
            raise StudyError(where, f"the configuration without {name!r}", expected)
        if not isinstance(value, int) or not 1 <= value <= most:
            raise StudyError(where, f"{name} {value!r}", f"a whole number from 1 to {most} is expected there")
        return value

    kind = model_type(config.get("model_type"))
    hidden = read(*HIDDEN)
    heads = read(*HEADS, default=1)
    embedding = read("embedding_size", default=hidden)
    key_value = hidden // heads * read("num_key_value_heads", default=heads)
    try:
        longest = _longest(kind, config, read("max_position_embeddings", default=512))
        relative = _relative(config) if kind.relative_positions else 0
    except TypeError as error:
        raise StudyError(where, f"the configuration of its positions ({error})", expected) from None
    if longest < SHORTEST:
        raise StudyError(where, f"a configuration with room for {longest} tokens", f"at least {SHORTEST} are expected")
    return Shape(
        layers=read(*LAYERS, most=DEEPEST),
        hidden=hidden,
        feed_forward=read(*FEED_FORWARD, default=4 * hidden),
        vocabulary=read("vocab_size"),
        max_length=longest,
        gated=kind.gated,
        embedding=embedding if embedding != hidden else 0,
        key_value=key_value if key_value != hidden else 0,
        relative=relative,
    )


def _longest(kind: ModelType, config: Mapping[str, Any], positions: int) -> int:
    """Tokens of the longest sequence, special ones included."""
    pad = config.get("pad_token_id")
    return min(positions - (1 if pad is None else pad) - 1 if kind.offset_positions else positions, LONGEST)


def _relative(config: Mapping[str, Any]) -> int:
    """Compared relative positions: 2 x span for content-to-position, as many for position-to-content (DeBERTa)."""
    if not config.get("relative_attention"):
        return 0
    types = config.get("pos_att_type") or ()
    kinds = set(types.split("|") if isinstance(types, str) else types) & {"c2p", "p2c"}
    spans = (config.get(name, -1) for name in RELATIVE_SPAN)
    return 2 * next((span for span in spans if span > 0), 512) * len(kinds)


# A file above this size is sampled: hashing a month's checkpoints for every plan would make the plan slow, and no
# training step leaves any block of the weights as it was.
WHOLE_FILE_BYTES = 8 << 20
UNREAD = {".md", ".h5", ".msgpack", ".ot", ".onnx"}  # files of an encoder's folder: texts, weights of other frameworks
SAMPLED_BLOCKS = 64
BLOCK_BYTES = 64 << 10


@dataclass(frozen=True)
class EncoderSource:
    """Encoder of the axis as a plan sees it: where its weights are, its shape, and its identity in keys.

    Where each seed has its own checkpoint, these are the first seed's, and `of(seed)` has the others.
    """

    name: str
    location: str | None  # hub id or folder; None: random weights
    shape: Shape
    digest: str  # identity of the published weights in keys
    revision: str | None = None  # commit of a hub encoder; None until it was resolved
    config: str | None = None  # random weights: JSON of the configuration
    text: str | None = None  # random weights: the task whose text trains the tokenizer
    vocab_size: int = 0
    algorithm: str = ""
    pooling: str = "mean"  # of token vectors into one of the text, in heads
    entry: Checkpoint = UNKNOWN  # of the registry
    guessed: bool = False  # the shape is that of GUESS: this encoder's configuration was never read
    by_seed: tuple[tuple[int, EncoderSource], ...] = ()  # empty: one checkpoint for all seeds

    def of(self, seed: int) -> EncoderSource:
        """Checkpoint that the chains of a seed begin from."""
        return next((source for number, source in self.by_seed if number == seed), self)

    @property
    def checkpoints(self) -> tuple[EncoderSource, ...]:
        """All checkpoints that the study may load."""
        return tuple(source for _, source in self.by_seed) or (self,)

    @property
    def random(self) -> bool:
        """Whether its weights are random."""
        return self.location is None

    @property
    def on_hub(self) -> bool:
        """Whether its location is a hub id, not a folder."""
        return self.location is not None and not Path(self.location).is_dir()

    def at(self, revision: str) -> EncoderSource:
        """Hub encoder at a commit, its revision and digest those of that commit."""
        return replace(self, revision=revision, digest=fingerprint({"hub": self.location, "revision": revision}))


def encoder_source(
    name: str, described: Encoder | None, base: Path, text_digest: str | None, seeds: Sequence[int], where: str
) -> EncoderSource:
    """Encoder of the axis: described in the study, shipped, a folder relative to the study file, or a hub id.

    `text_digest` identifies the text that a tokenizer is trained on. Raises StudyError where there is none.
    """
    if described is not None and described.random_init is not None:
        return _random(name, described, text_digest, where)
    written, entry = _location(name, described), registered(name, described)
    if unknown := next((mark for mark in re.findall(r"\{[^{}]*\}", written) if mark != SEED), None):
        raise StudyError(where, f"{unknown} in the path {written!r}", f"{SEED} alone stands for something there")
    pattern = entry.folder or written
    if SEED not in pattern:
        return _published(name, pattern, described, base, where)
    locations = {seed: pattern.replace(SEED, str(seed)) for seed in seeds}
    existing = [seed for seed, location in locations.items() if (base / location).is_dir()]
    if (existing or entry.folder) and (missing := [seed for seed in seeds if seed not in existing]):
        absent = f"no folder {str((base / locations[missing[0]]).resolve())!r}"
        raise StudyError(where, absent, f"with {written!r} one for every seed of axes.seed is expected")
    sources = {seed: _published(name, location, described, base, where) for seed, location in locations.items()}
    return per_seed(sources, where)


def registered(name: str, described: Encoder | None) -> Checkpoint:
    """Entry in the registry of an encoder of the axis; UNKNOWN where it has none."""
    random = described is not None and described.random_init is not None
    return UNKNOWN if random else checkpoint(_location(name, described))


def _location(name: str, described: Encoder | None) -> str:
    return (described.path if described is not None else None) or name


def per_seed(checkpoints: Mapping[int, EncoderSource], where: str) -> EncoderSource:
    """Encoder with a checkpoint of its own for every seed. Raises StudyError where they differ in shape."""
    first = next(iter(checkpoints.values()))
    for seed, source in checkpoints.items():
        if source.shape != first.shape:
            difference = f"{source.location} of seed {seed}, which has another shape than {first.location}"
            raise StudyError(where, difference, "checkpoints that differ in their training alone are expected")
    return replace(first, by_seed=tuple(checkpoints.items()))


def _published(name: str, location: str, described: Encoder | None, base: Path, where: str) -> EncoderSource:
    entry = registered(name, described)
    pooling = (described.pooling if described is not None else None) or entry.pooling
    folder = (base / location).resolve()
    if folder.is_dir():
        return EncoderSource(
            name, str(folder), _shape_of_folder(folder, where), _folder_digest(folder), pooling=pooling, entry=entry
        )
    if entry.shape is None and not _looks_like_hub_id(location, described):
        expected = "a name under 'encoders', a folder with a model, or a hub id such as " + ", ".join(hub_ids())
        hint = nearest(location, CHECKPOINTS)
        raise StudyError(where, f"the encoder {location!r}", f"{expected} is expected", hint)
    shape = entry.shape or checkpoint(GUESS).shape
    assert shape is not None
    digest = fingerprint({"hub": location, "revision": None})
    guessed = entry.shape is None
    source = EncoderSource(name, location, shape, digest, pooling=pooling, entry=entry, guessed=guessed)
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
    """Identity of an encoder's folder: the digests of its files."""
    paths = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "." and path.suffix not in UNREAD]
    states = ((path, path.stat()) for path in paths)
    return fingerprint({path.name: _file_identity(path, state.st_size, state.st_mtime_ns) for path, state in states})


@cache
def _file_identity(path: Path, size: int, _changed: int) -> str:
    """Digest of a file, of samples of it where it is large; cached per state of the file."""
    if size <= WHOLE_FILE_BYTES:
        return file_digest(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for block in range(SAMPLED_BLOCKS):
            stream.seek((size - BLOCK_BYTES) * block // (SAMPLED_BLOCKS - 1))
            digest.update(stream.read(BLOCK_BYTES))
    return digest.hexdigest()[:KEY_LENGTH]
