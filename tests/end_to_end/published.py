"""Folders as they are published: random weights and a tokenizer, saved by transformers."""

from __future__ import annotations

import json
import shutil
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


def make_published(folder: Path, corpus: Path, *, family: str = "roberta", pickled: bool = False) -> Path:
    """Write a masked-LM model of 32 tokens a sequence, ``pickled`` as pytorch_model.bin.

    Its tokenizer is WordPiece where ``family`` is "bert", else byte-level BPE.
    """
    if family == "bert":
        tokenizer = train_wordpiece(texts_of(corpus), vocab_size=320, min_frequency=2, lowercase=True)
        transformers.BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    else:
        tokenizer = train_byte_level_bpe(texts_of(corpus), vocab_size=320, min_frequency=2)
        save_tokenizer(tokenizer, folder)
    shape = {
        "vocab_size": tokenizer.get_vocab_size(),
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
