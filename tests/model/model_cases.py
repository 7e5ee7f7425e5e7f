"""Small random models, ours and Hugging Face's with the same weights, and batches with padding anywhere."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
import transformers
from torch import Tensor, nn

from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.model.hierarchical import HierarchicalRobertaForClassification
from textclf_transformer.model.loading import load_strict
from textclf_transformer.model.pretrained import roberta_state_from_hf

PAD = 1
VOCAB = 59
CHUNK_LENGTH = 8
PADDINGS = ("none", "right", "left", "inside")
_OF_BOTH = {"use_gradient_checkpointing"}  # of encoder and classifier: here it is the classifier's


def make_encoder(*, seed: int = 0, **changes: object) -> RobertaModel:
    arguments: dict[str, object] = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": 16 + PAD + 1,
        "pad_token_id": PAD,
    }
    torch.manual_seed(seed)
    return RobertaModel(**(arguments | changes))  # type: ignore[arg-type]


def spread_weights(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Draw every parameter anew and wide, so that no bias is 0, no norm is 1 and a swapped tensor is seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = name.lower().split(".")[-2].endswith("norm") and name.endswith("weight")
            parameter.normal_(float(is_norm), 0.3, generator=generator)
    return model


def make_hierarchical(*, seed: int = 0, **changes: object) -> HierarchicalRobertaForClassification:
    encoder_names = inspect.signature(RobertaModel).parameters.keys()
    encoder_changes = {name: changes.pop(name) for name in list(changes) if name in encoder_names - _OF_BOTH}
    encoder = make_encoder(seed=seed, **encoder_changes)
    arguments: dict[str, object] = {"num_labels": 4, "attention_hidden_size": 10}
    model = HierarchicalRobertaForClassification(encoder, **(arguments | changes))  # type: ignore[arg-type]
    spread_weights(model, seed=seed)
    return model.eval()


def make_documents(counts: list[int], *, chunks: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, C, S) of documents with these numbers of chunks, the last of each shorter."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(counts), chunks or max(counts), CHUNK_LENGTH)
    ids = torch.randint(2, VOCAB, shape, generator=generator)
    mask = torch.ones(shape, dtype=torch.bool)
    for document, count in enumerate(counts):
        mask[document, :count] = False
        mask[document, count - 1, 2 + document :] = True
    return ids.masked_fill(mask, PAD), mask


# The size of Hugging Face's models of every family.
HF_SHAPE: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
}


def make_hf(
    kind: str, *, seed: int = 0, family: str = "Roberta", **changes: object
) -> transformers.PreTrainedModel:
    """``kind``: "RobertaModel", "RobertaForMaskedLM" … of transformers, in evaluation mode; ``family``: what
    its name begins with.
    """
    settings = HF_SHAPE | {
        "max_position_embeddings": 16 + PAD + 1,
        "pad_token_id": PAD,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "attn_implementation": "eager",
    }
    config = getattr(transformers, f"{family}Config")(**(settings | changes))
    model = getattr(transformers, kind)(config)
    return spread_weights(model, seed=seed).eval()


def encoder_like(hf: transformers.PreTrainedModel, *, backend: str = "explicit") -> RobertaModel:
    """Our encoder of the same shape as ``hf``; its weights are still its own."""
    c = hf.config
    return RobertaModel(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        intermediate_size=c.intermediate_size,
        max_position_embeddings=c.max_position_embeddings,
        pad_token_id=c.pad_token_id,
        layer_norm_eps=c.layer_norm_eps,
        attention_backend=backend,
    )


def masked_lm_like(hf: transformers.PreTrainedModel, *, backend: str = "explicit") -> RobertaForMaskedLM:
    """Our masked-LM model with the weights of ``hf``, in evaluation mode and of its dtype."""
    model = RobertaForMaskedLM(encoder_like(hf, backend=backend)).to(hf.dtype)
    state = roberta_state_from_hf(hf.state_dict(), pad_token_id=hf.config.pad_token_id)
    load_strict(model, state, source="the reference", leave_behind=("head.decoder.",))
    return model.eval()


def make_batch(padding: str, *, batch: int = 4, length: int = 11, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids (B, S) with PAD under the mask, and the mask (B, S), True = PAD; every row has a real token."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, VOCAB, (batch, length), generator=generator)
    mask = torch.zeros(batch, length, dtype=torch.bool)
    if padding == "inside":
        mask = torch.rand(batch, length, generator=generator) < 0.4
        mask[:, length // 2] = False
    elif padding != "none":
        for row in range(1, batch):
            count = min(2 * row, length - 1)
            mask[row, -count:] = padding == "right" and count > 0
            if padding == "left":
                mask[row, :count] = True
    return ids.masked_fill(mask, PAD), mask


def make_labels(mask: Tensor, *, seed: int = 0, share: float = 0.4) -> Tensor:
    """Targets at some real positions, at least one; -100 elsewhere."""
    generator = torch.Generator().manual_seed(seed + 1)
    labels = torch.randint(0, VOCAB, mask.shape, generator=generator)
    chosen = (torch.rand(mask.shape, generator=generator) < share) & ~mask
    chosen[0, (~mask[0]).nonzero()[0, 0]] = True
    return labels.masked_fill(~chosen, -100)


def assert_same_gradients(model: nn.Module, expected: Mapping[str, Tensor], *, bound: float) -> None:
    """Compare each parameter's gradient with the one of its name, relative to that tensor's largest value."""
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        # What cancels in exact numbers, as the bias of the keys does in the softmax, is measured by the rest.
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert float((found[name] - gradient).abs().max()) / scale < bound, name


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the expected tensor's largest value."""
    return float(((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).detach())
