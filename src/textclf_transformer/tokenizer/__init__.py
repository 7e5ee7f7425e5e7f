"""Tokenizer wrappers, their training, and the only masking code."""
