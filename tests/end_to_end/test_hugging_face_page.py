"""The commands and the Python of docs/hugging_face.md run as written; only the models are small."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from end_to_end.conftest import Checkout
from end_to_end.published import make_published, texts_of, unigram_vocabulary

import finetune
from experiments import generate_finetuning_experiment
from textclf_transformer.commands import cli
from textclf_transformer.commands.pretrained import read_published
from textclf_transformer.errors import CheckpointError
from textclf_transformer.model.encoder import RobertaModel

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hugging_face.md"
COMMANDS = {
    "experiments/generate_finetuning_experiment.py": generate_finetuning_experiment.main,
    "finetune.py": finetune.main,
    "textclf": cli.main,
}


def indented_blocks() -> list[str]:
    """Return the code of the page: paragraphs that are indented by four spaces."""
    paragraphs = PAGE.read_text(encoding="utf-8").split("\n\n")
    return [re.sub(r"(?m)^    ", "", text) for text in paragraphs if text.startswith("    ")]


def test_the_commands(checkout: Checkout) -> None:
    shutil.copy(checkout.root / "corpus.jsonl", checkout.root / "my.jsonl")
    make_published(checkout.root / "path" / "to" / "roberta-base", checkout.root / "corpus.jsonl")
    lines = [line for block in indented_blocks() for line in block.splitlines()]
    words = [shlex.split(line.removeprefix("python ")) for line in lines if "import" not in line]
    commands = [line for line in words if line[0] in COMMANDS]
    assert [line[0].rpartition("/")[2] for line in commands] == [
        "generate_finetuning_experiment.py",
        "textclf",
        "finetune.py",
        "textclf",
    ]
    for name, *arguments in commands:
        more = ["--set", "training.epochs=1"] if name == "finetune.py" else []
        checkout.run(COMMANDS[name], *arguments, *more)
    assert (checkout.root / "exported" / "ft_v1" / "README.md").exists()


def test_how_an_old_folder_is_mended(checkout: Checkout) -> None:
    old = make_published(checkout.root / "old", checkout.root / "corpus.jsonl", pickled=True)
    state = torch.load(old / "pytorch_model.bin", weights_only=True)
    torch.save(state, old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="zip format"):
        read_published(str(old))
    (code,) = (block for block in indented_blocks() if "import" in block)
    exec(code, {})
    mended = read_published(str(checkout.root / "mended"))
    mended.check_weights()
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(mended.state[f"encoder.{name}"], state[f"roberta.{name}"])
    theirs = transformers.AutoConfig.from_pretrained(checkout.root / "mended")
    assert (
        theirs.pad_token_id == json.loads((old / "config.json").read_text(encoding="utf-8"))["pad_token_id"]
    )


def test_how_a_multilingual_bert_is_mended(checkout: Checkout) -> None:
    folder = checkout.root / "multilingual"
    tokenizer = transformers.XLMRobertaTokenizer(
        vocab=unigram_vocabulary(texts_of(checkout.root / "corpus.jsonl"))
    )
    tokenizer.save_pretrained(folder)
    size = len(tokenizer.get_vocab())
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(**shape, vocab_size=size, max_position_embeddings=16, pad_token_id=0)
    theirs = transformers.BertModel(config).eval()
    theirs.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r'or set "pad_token_id": 1 in config\.json'):
        read_published(str(folder))
    path = folder / "config.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"pad_token_id": 0', '"pad_token_id": 1'), encoding="utf-8"
    )
    read_published(str(folder)).check_weights()
    ids = torch.tensor([[0, 7, 8, 0, 9, 2], [0, 9, 2, 1, 1, 1]])
    mask = ids == 1
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=(~mask).long()).last_hidden_state[~mask]
        found = RobertaModel.from_hf(folder).eval()(ids, mask)["last_hidden_state"][~mask]
    assert float((found - expected).abs().max()) < 1e-5
