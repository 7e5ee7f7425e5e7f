"""A hand-written RoBERTa: pretrained by dynamic-masking MLM, finetuned to classify long documents chunk by chunk."""

__version__ = "0.1.0"
