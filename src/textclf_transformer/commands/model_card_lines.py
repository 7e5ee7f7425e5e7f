"""What a model card says word for word: the lines of Python that load the model, and its limits."""

from __future__ import annotations

TRANSFORMERS_LINES = """\
import torch
from transformers import {auto_class}, AutoTokenizer

folder = "."  # where this file lies
text = "{text}"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {auto_class}.from_pretrained(folder).eval()
tokens = tokenizer(text, truncation=True, return_tensors="pt")
with torch.inference_mode():
    logits = model(**tokens).logits
"""

MASKED_LM_LINES = """\
hidden = tokens["input_ids"] == tokenizer.mask_token_id
print(tokenizer.convert_ids_to_tokens(logits[hidden][0].topk(5).indices.tolist()))
"""

SEQUENCE_LINES = """\
probabilities = logits[0].{activation}
config = model.config
print({{config.id2label[index]: float(p) for index, p in enumerate(probabilities)}})
"""

SEVERAL_LABELS = """\
A label is given where its probability is above the one in `label_thresholds` of config.json, chosen on the
validation data for its best F1. The metrics on the test data are of labels given so.
"""
SEVERAL_LABELS_LINES = """\
given = (probabilities > torch.tensor(config.label_thresholds)).nonzero().flatten().tolist()
print([config.id2label[index] for index in given])
"""

HIERARCHICAL_LINES = """\
import torch
from textclf_transformer import HierarchicalRobertaForClassification
from transformers import AutoConfig, AutoTokenizer

folder = "."  # where this file lies
text = "the text to classify, as long as it may be"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = HierarchicalRobertaForClassification.from_hf(folder).eval()  # the encoder and head.safetensors
chunks = tokenizer(
    text,
    truncation=True,
    max_length={chunk_size},
    stride={overlap},  # tokens that a chunk shares with the one before
    return_overflowing_tokens=True,
    padding=True,
    return_tensors="pt",
)
input_ids = chunks["input_ids"][None, :{max_chunks}]
attention_mask = chunks["attention_mask"][None, :{max_chunks}] == 0  # True = PAD
with torch.inference_mode():
    probabilities = model(input_ids, attention_mask)["logits"][0].{activation}
config = AutoConfig.from_pretrained(folder)
print({{config.id2label[index]: float(p) for index, p in enumerate(probabilities)}})
"""

HIERARCHICAL = """\
The encoder is in the layout of transformers; pooling over chunks and classifier, which
transformers has no class for, lie beside it in head.json and head.safetensors. Both together,
with the package textclf_transformer:
"""
ENCODER_LINES = """\
from transformers import AutoModel

folder = "."  # where this file lies
encoder = AutoModel.from_pretrained(folder{options}).eval()
"""

LIMITS = """\
- The numbers above hold for texts like those that it was tested on, and say nothing about others.
- It learned from the texts named above and repeats what stands in them, prejudice included. A decision about
  a person needs a person who reads the text.
"""
