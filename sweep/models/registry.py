"""Registry of encoders: one entry per model type and per published checkpoint, with all that is special about them.

An encoder without an entry is described by its configuration (config.json) alone, through `shape_of`. Three things are
read from the encoder itself and need no entry: its special tokens from what its tokenizer does to a word
(tasks/subwords.frame), whether it takes token type ids from the signature of its forward pass (training/model), and its
masked-token head, tied or not, from the shapes of its parts, checked by its logits (training/published).

Loads no torch: a plan needs neither network nor weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweep.errors import StudyError

LONGEST = 8192  # what a configuration promises beyond that is not believed
SHORTEST = 8  # sequences that an encoder must be able to read
LARGEST, DEEPEST = 2**31 - 1, 1000  # of sizes, of layers

SEED = "{seed}"  # in the path of an encoder: every seed of the study begins from a checkpoint of its own


@dataclass(frozen=True)
class ModelType:
    """What is special about all encoders of a model type of transformers; the defaults are right for an unknown one."""

    # Position ids begin at pad_token_id + 1, so a table of 514 positions holds sequences of 512 tokens.
    offset_positions: bool = False
    gated: bool = False  # feed-forward with a gate (GeGLU), three matrices instead of two
    relative_positions: bool = False  # compared in every layer (DeBERTa), where the configuration asks for them
    # The attention mask that the encoder takes. "padding": [S, L]. "ready": [S, 1, 1, L], for all layers.
    # "ready_by_kind": {full_attention, sliding_attention}, [S, 1, 1 or L, L] each. Given the padding alone,
    # transformers asks the device whether anything is masked, and so waits at every step for all that a GPU has to do.
    mask: Literal["padding", "ready", "ready_by_kind"] = "padding"


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
    "eurobert": _GATED,
    "gte": _GATED,
    "nomic_bert": _GATED,
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
}


def model_type(kind: object) -> ModelType:
    """The entry of a configuration's `model_type`; the defaults where it has none."""
    return MODEL_TYPES.get(str(kind), ModelType())


# How configurations call things, in the order in which they are looked up.
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
    """What the FLOPs of a transformer encoder, and the longest sequence it reads, depend on."""

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
    """What is known of a published checkpoint; the defaults say that nothing is."""

    shape: Shape | None = None  # None: a configuration at hand tells it
    folder: str | None = None  # of one that comes with the package, SEED standing for the seed
    licence: str = ""
    text: str = ""  # what it was pretrained on
    languages: frozenset[str] | None = None  # of that text, by ISO 639-1 code where there is one; None: not known
    layer: int | None = None  # hidden state that retrieval reads; None: planning/reading chooses by depth
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
GUESS = "FacebookAI/xlm-roberta-base"  # whose shape a hub encoder has in a plan that knows nothing of it
UNKNOWN = Checkpoint()


def checkpoint(location: str) -> Checkpoint:
    """The entry of a hub id or of an encoder that comes with the package; UNKNOWN for any other."""
    return CHECKPOINTS.get(location, UNKNOWN)


def hub_ids() -> list[str]:
    """The encoders on the hub that can be planned without a network."""
    return [name for name, entry in CHECKPOINTS.items() if entry.shape is not None]


def shape_of(config: Mapping[str, Any], where: str) -> Shape:
    """The shape that a configuration describes. Raises StudyError where it is not a transformer's."""
    wanted = "a transformer's configuration is expected"

    def read(*names: str, default: int | None = None, most: int = LARGEST) -> int:
        name, value = next(
            ((name, config[name]) for name in names if config.get(name) is not None), (names[0], default)
        )
        if value is None:
            raise StudyError(where, f"the configuration without {name!r}", wanted)
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
        raise StudyError(where, f"the configuration of its positions ({error})", wanted) from None
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
    pad = config.get("pad_token_id")
    return min(positions - (1 if pad is None else pad) - 1 if kind.offset_positions else positions, LONGEST)


def _relative(config: Mapping[str, Any]) -> int:
    """Compared relative positions: 2 x span for content-to-position, as many for position-to-content."""
    if not config.get("relative_attention"):
        return 0
    named = config.get("pos_att_type") or ()
    kinds = set(named.split("|") if isinstance(named, str) else named) & {"c2p", "p2c"}
    spans = (config.get(name, -1) for name in RELATIVE_SPAN)
    return 2 * next((span for span in spans if span > 0), 512) * len(kinds)
