"""A tiny gpt_oss model for vLLM: its configuration and gpt-oss's own tokenizer. vLLM makes dummy weights for it.

Runs in vLLM's environment: `python -m tests.vllm.model FOLDER`. The vocabulary is the one that `oss-harmony` carries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from openai_harmony import HarmonyEncodingName, load_harmony_encoding

ORDINARY = 199998
VOCABULARY = 201088
RETURN, CALL, END_OF_TEXT = 200002, 200012, 199999

# How o200k_base cuts text into words before it merges bytes: the pattern that tiktoken publishes.
WORDS = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

# The fields of gpt-oss-20b's config.json, with sizes that two cores run at once. The window is the real one: a server
# that is to refuse long prompts is started with a smaller `--max-model-len`.
CONFIG: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "attention_bias": True,
    "attention_dropout": 0.0,
    "bos_token_id": 199998,
    "eos_token_id": RETURN,
    "pad_token_id": END_OF_TEXT,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "experts_per_token": 2,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "rms_norm_eps": 1e-05,
    "initial_context_length": 4096,
    "max_position_embeddings": 131072,
    "rope_theta": 150000,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCABULARY,
}
GENERATION = {
    "bos_token_id": 199998,
    "do_sample": True,
    "eos_token_id": [RETURN, END_OF_TEXT, CALL],
    "pad_token_id": END_OF_TEXT,
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|startoftext|>",
    "eos_token": "<|return|>",
    "pad_token": "<|endoftext|>",
    "clean_up_tokenization_spaces": False,
    "model_max_length": 1000000000000000019884624838656,
}


def write_model(folder: Path) -> None:
    """Write all that `vllm serve FOLDER --load-format dummy` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", CONFIG),
        ("generation_config.json", GENERATION),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
        ("tokenizer.json", tokenizer()),
    ):
        (folder / name).write_text(json.dumps(content))


def tokenizer() -> dict[str, Any]:
    """Return gpt-oss's tokenizer in the format of the `tokenizers` library, version 1.0."""
    encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    pieces = [bytes(encoding._inner.decode_bytes([token])) for token in range(VOCABULARY)]
    ranks = {piece: token for token, piece in enumerate(pieces[:ORDINARY])}
    characters = byte_characters()

    def written(piece: bytes) -> str:
        return "".join(characters[byte] for byte in piece)

    merges = [[written(half) for half in split(piece, ranks)] for piece in pieces[:ORDINARY] if len(piece) > 1]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special(token, pieces[token].decode()) for token in range(ORDINARY, VOCABULARY)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": True},
                byte_level(trim_offsets=True),
            ],
        },
        "post_processor": byte_level(trim_offsets=False),
        "decoder": byte_level(trim_offsets=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {written(piece): token for piece, token in ranks.items()},
            "merges": merges,
        },
    }


def byte_level(*, trim_offsets: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": trim_offsets, "use_regex": False}


def special(token: int, text: str) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": text, **plain, "special": True}


def split(piece: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the two tokens that were merged into `piece`: byte pair encoding with the merges before it alone."""
    limit = ranks[piece]
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 2:
        found = [(ranks.get(parts[at] + parts[at + 1], limit), at) for at in range(len(parts) - 1)]
        rank, at = min(found)
        assert rank < limit, f"no two tokens make {piece!r}"
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def byte_characters() -> list[str]:
    """Return the printable character by which byte-level BPE writes each byte (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
