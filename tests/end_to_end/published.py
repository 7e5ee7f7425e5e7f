"""Folders as they are published: random weights and a tokenizer, saved by transformers."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import tokenizers
import torch
import transformers

from textclf_transformer.tokenizer.training import train_byte_level_bpe, train_wordpiece

PAD = 1
BERTS_PAD = 0
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_into_cache(hub: Path, folder: Path, *, name: str, commit: str = COMMIT) -> Path:
    """Lay a folder into a cache as the hub's client would have done; return its snapshot."""
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    return Path(shutil.copytree(folder, repository / "snapshots" / commit))


def texts_of(corpus: Path) -> list[str]:
    return [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]


def unigram_vocabulary(
    texts: list[str], *, first: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>")
) -> list[tuple[str, float]]:
    """Return pieces and log-probabilities: all letters of ``texts``, and their words with a space before
    them; ``first`` and the mask score 0, as published.
    """
    counts = Counter(letter for text in texts for letter in text if not letter.isspace())
    counts.update(f"▁{word}" for text in texts for word in text.split())
    counts["▁"] += 1
    pieces = sorted(
        (piece for piece in counts if piece not in first), key=lambda piece: (-counts[piece], piece)
    )
    total = sum(counts.values())
    scored = [(piece, math.log(counts[piece] / total)) for piece in pieces]
    return [*((piece, 0.0) for piece in first), *scored, ("<mask>", 0.0)]


def make_published(folder: Path, corpus: Path, *, family: str = "roberta", pickled: bool = False) -> Path:
    """Write a masked-LM model of 32 tokens a sequence, ``pickled`` as pytorch_model.bin.

    Its tokenizer is WordPiece where ``family`` is "bert", Unigram where it is "xlm-roberta", else byte-level
    BPE.
    """
    if family == "bert":
        tokenizer = train_wordpiece(texts_of(corpus), vocab_size=320, min_frequency=2, lowercase=True)
        transformers.BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    elif family == "xlm-roberta":
        tokenizer = transformers.XLMRobertaTokenizer(vocab=unigram_vocabulary(texts_of(corpus)))
        tokenizer.save_pretrained(folder)
    else:
        tokenizer = train_byte_level_bpe(texts_of(corpus), vocab_size=320, min_frequency=2)
        save_tokenizer(tokenizer, folder)
    shape = {
        "vocab_size": len(tokenizer.get_vocab()),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "pad_token_id": BERTS_PAD if family == "bert" else PAD,
        "layer_norm_eps": 1e-4,
    }
    torch.manual_seed(5)
    model: transformers.PreTrainedModel
    if family == "roberta":
        config = transformers.RobertaConfig(**shape, max_position_embeddings=34, type_vocab_size=1)
        model = transformers.RobertaForMaskedLM(config)
    elif family == "xlm-roberta":
        multilingual = transformers.XLMRobertaConfig(**shape, max_position_embeddings=34, type_vocab_size=1)
        model = transformers.XLMRobertaForMaskedLM(multilingual)
    elif family == "bert":
        model = transformers.BertForPreTraining(transformers.BertConfig(**shape, max_position_embeddings=32))
    else:
        deberta = transformers.DebertaConfig(
            **shape,
            max_position_embeddings=32,
            max_relative_positions=8,
            relative_attention=True,
            pos_att_type=["c2p", "p2c"],
            position_biased_input=False,
        )
        model = transformers.DebertaForMaskedLM(deberta)
    model.save_pretrained(folder)
    if pickled:
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def save_tokenizer(tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
        bos_token="<s>",
        eos_token="</s>",
    ).save_pretrained(folder)
