"""What a run will cost, before it starts: parameters, memory and time, from shapes and one timing.

The figures are estimates to plan with. Weights, gradients and optimizer state are counted exactly;
activations by the tensors that autograd keeps for the backward pass of an encoder (a test counts those);
operations by the matrix products, Muon's among them. What is frozen builds no graph, so it costs a forward
pass alone. Not counted: heads and poolings, the device's own context, and what the allocator rounds up.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.model.freezing import count_parameters
from textclf_transformer.model.layers import EncoderLayer
from textclf_transformer.training.muon import layer_matrices, muon_flops

# Share of a square matrix product's rate that training reaches.
SHARE_OF_MATMUL_RATE = 0.6
_MATMUL_SIZE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLoad:
    """What one optimizer step brings to the encoder.

    Attributes:
        sequence_length: S, mean tokens of a sequence, special tokens included.
        tokens_per_step: tokens of the whole step.
        tokens_per_micro_batch: most tokens that go through the encoder in one forward pass.
        wanted_share: share of the tokens whose output the head reads.
        head_flops_per_token: operations of the head's forward pass, averaged over all tokens.
        recompute: what gradient checkpointing computes again: "nothing", "layers" one by one, or "chunks":
            groups of them, see ``encode_in_groups``.
        tokens_per_group: tokens of such a group.
        tokens_kept: tokens of the groups that are not computed again.
        amp: whether matrix products are in 16 bits.
        attention_backend: see ``choose_attention_backend``.
        attention_dropout: whether attention weights are dropped.
        extra_layers: layers that run beside the encoder's own (the enhanced mask decoder's second pass).
    """

    sequence_length: float
    tokens_per_step: float
    tokens_per_micro_batch: float
    wanted_share: float
    head_flops_per_token: float = 0.0
    recompute: Literal["nothing", "layers", "chunks"] = "nothing"
    tokens_per_group: float = 0.0
    tokens_kept: float = 0.0
    amp: bool
    attention_backend: str
    attention_dropout: bool
    extra_layers: int = 0

    @property
    def tokens_per_pass(self) -> float:
        """Tokens of one forward pass over all groups of it."""
        return min(self.tokens_per_micro_batch, self.tokens_per_step)

    @property
    def tokens_per_call(self) -> float:
        """Tokens that go through the layers at once."""
        grouped = self.recompute == "chunks"
        return min(self.tokens_per_pass, self.tokens_per_group) if grouped else self.tokens_per_pass


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What one optimizer step is expected to need.

    Attributes:
        parameters: number of parameters.
        trainable_parameters: how many of them are trained.
        state_bytes: weights, gradients and AdamW's two moments, of Muon's matrices one, all float32.
        activation_bytes: what is kept for the backward pass at its peak, 16-bit copies of weights included.
        step_flops: floating-point operations of one optimizer step: forward, backward, Muon's iterations.
    """

    parameters: int
    trainable_parameters: int
    state_bytes: int
    activation_bytes: int
    step_flops: float


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a square matrix product, measured for a tenth of a second."""
    matrix = torch.randn(_MATMUL_SIZE, _MATMUL_SIZE, device=device).to(dtype)
    product = matrix @ matrix
    repetitions, elapsed = 0, 0.0
    start = time.perf_counter()
    while elapsed < 0.1:
        product = matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        repetitions += 1
        elapsed = time.perf_counter() - start
    del product
    return 2 * _MATMUL_SIZE**3 * repetitions / elapsed


def estimate_cost(
    model: nn.Module, encoder: RobertaModel, load: StepLoad, *, muon: bool = False
) -> CostEstimate:
    """Estimate one optimizer step of a model, frozen as it is now.

    Args:
        model: the model; its tensors may be on the device "meta".
        encoder: the encoder in it.
        load: what goes through it.
        muon: whether Muon updates the matrices of the layers.

    Returns:
        The estimate.
    """
    parameters = count_parameters([model])
    trainable = count_parameters([model], trainable_only=True)
    one_moment = sum(p.numel() for p in layer_matrices(model).values()) if muon else 0
    return CostEstimate(
        parameters=parameters,
        trainable_parameters=trainable,
        state_bytes=4 * parameters + 12 * trainable - 4 * one_moment,
        activation_bytes=int(_activation_bytes(encoder, load)),
        step_flops=_step_flops(encoder, load) + (muon_flops(model) if muon else 0.0),
    )


def layers_in_graph(encoder: RobertaModel) -> int:
    """Return how many layers the backward pass goes through: down to the lowest that is trained."""
    if any(parameter.requires_grad for parameter in encoder.embeddings.parameters()):
        return len(encoder.layers)
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in encoder.layers]
    return len(trained) - trained.index(True) if any(trained) else 0


def _intermediate_size(encoder: RobertaModel) -> int:
    layer = encoder.layers[0]
    assert isinstance(layer, EncoderLayer)
    return layer.intermediate.out_features


def _step_flops(encoder: RobertaModel, load: StepLoad) -> float:
    """Forward once, backward twice that for layers in the graph, and once more what is computed again."""
    width, inner = encoder.hidden_size, _intermediate_size(encoder)
    attention = 2 * 3 * width**2 + 4 * load.sequence_length * width
    if encoder.attention_kind == "disentangled":
        # both terms with positions have 2S cells a token, and 2S positions are projected in each call
        attention += 8 * load.sequence_length * width * (1 + width / load.tokens_per_call)
    after_attention = 2 * (width**2 + 2 * width * inner)
    layers, in_graph = len(encoder.layers), layers_in_graph(encoder)
    # the last layer computes keys and values of all tokens, and the rest for the wanted ones alone
    keys_and_values = attention if encoder.attention_kind == "disentangled" else 4 * width**2
    last = keys_and_values + load.wanted_share * (attention - keys_and_values + after_attention)
    extra = load.extra_layers * (attention + after_attention)
    forward = (layers - 1) * (attention + after_attention) + last + extra
    backward = 2 * (max(in_graph - 1, 0) * (attention + after_attention) + min(in_graph, 1) * (last + extra))
    again = {"nothing": 0.0, "layers": backward / 2, "chunks": forward if in_graph else 0.0}[load.recompute]
    if load.recompute == "chunks":
        again *= max(0.0, 1 - load.tokens_kept / load.tokens_per_pass)
    head = load.head_flops_per_token * 3
    return load.tokens_per_step * (forward + backward + again + head)


def _activation_bytes(encoder: RobertaModel, load: StepLoad) -> float:
    """What the layers in the graph keep, and the working memory of one layer beside it."""
    in_graph = layers_in_graph(encoder)
    by_key, by_query = _kept_per_token(encoder, load)
    tokens, calls = load.tokens_per_pass, 1
    if load.recompute == "chunks":  # kept groups are gone before another is computed again
        tokens = min(tokens, max(load.tokens_kept, load.tokens_per_group))
        calls = math.ceil(tokens / load.tokens_per_group)
    full = by_key + by_query
    kept = max(in_graph - 1 + load.extra_layers, 0) * full + min(in_graph, 1) * (
        by_key + load.wanted_share * by_query
    )
    if load.recompute == "layers":
        kept = in_graph * 4 * encoder.hidden_size  # each layer's input, float32
    weights = [p for layer in encoder.layers for p in layer.parameters() if p.requires_grad and p.ndim == 2]
    copies = calls * sum(2 * p.numel() for p in weights) if load.amp else 0  # each call has its own
    return tokens * (kept + full) + copies


def _kept_per_token(encoder: RobertaModel, load: StepLoad) -> tuple[float, float]:
    """Return the bytes that a layer keeps per token, and those per token whose output is wanted."""
    width, inner = encoder.hidden_size, _intermediate_size(encoder)
    cells = encoder.num_attention_heads * load.sequence_length  # of attention scores, per token
    operand = 2 if load.amp else 4
    explicit = load.attention_backend == "explicit"  # on a CPU, where dropout's masks are not bytes, too
    masks = 2 * (operand if explicit else 1)
    # the heads' outputs, the feed-forward network's input and its inside twice; two norms' inputs in float32
    after_attention = operand * (2 * width + 2 * inner) + masks * width + 8 * width
    if encoder.attention_kind == "disentangled":
        # input, query, key, value; query and key once more, multiplied with two tables of 2S positions that
        # are spread over the sequences; weights, and with dropout what is drawn and what is left of them
        copies = (3 if load.attention_dropout else 1) if explicit else 2
        return operand * (width * (10 if explicit else 11) + copies * cells), after_attention
    # the dense kernel keeps its result beside the copy of it that is projected, the packed one that itself
    scores = {"explicit": cells * (operand + load.attention_dropout), "fused": operand * width, "varlen": 0}
    # input, key, value | query, what the attention keeps (explicit: weights, and which of them are dropped)
    return 3 * operand * width, operand * width + scores[load.attention_backend] + after_attention
