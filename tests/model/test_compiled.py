"""Compiled layers beside plain ones."""

from __future__ import annotations

import shutil

import pytest
import torch
from model_cases import assert_same_gradients, make_batch, make_encoder, relative_error
from torch._dynamo.utils import counters

from textclf_transformer.errors import ConfigError
from textclf_transformer.model import layers
from textclf_transformer.model.encoder import RobertaModel
from textclf_transformer.training.building import compile_encoder

needs_compiler = pytest.mark.skipif(
    " " in torch.__file__ or not any(shutil.which(name) for name in ("c++", "g++", "clang++")),
    reason="there is no C++ compiler, or torch lies under a path with a space, which it does not quote",
)


def gradients(encoder: RobertaModel, *, batch: int, length: int) -> torch.Tensor:
    """Return the output, and leave gradients in the parameters."""
    encoder.zero_grad()
    output = encoder.encode(*make_batch("inside", batch=batch, length=length))
    (output * torch.linspace(-1, 1, output.shape[1])).square().sum().backward()
    return output.detach()


@needs_compiler
def test_compiled_layers_compute_the_same_at_every_length_in_one_graph() -> None:
    plain, compiled = (make_encoder(hidden_dropout_prob=0.0, embedding_dropout_prob=0.0) for _ in range(2))
    compile_encoder(compiled)
    assert len(compiled.layers) > 1
    torch._dynamo.reset()
    counters.clear()
    for batch, length in ((3, 8), (5, 7), (2, 5)):
        expected = gradients(plain, batch=batch, length=length)
        assert relative_error(gradients(compiled, batch=batch, length=length), expected) < 1e-5
        named = {name: parameter.grad for name, parameter in plain.named_parameters()}
        assert_same_gradients(compiled, named, bound=1e-5)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


@needs_compiler
def test_compiled_dropout_comes_from_the_seeded_stream() -> None:
    encoder = make_encoder(hidden_dropout_prob=0.3)
    encoder.compile_layers()
    outputs = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        outputs.append(encoder.encode(*make_batch("right")))
    assert torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[1])


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object) -> None:
        raise torch._dynamo.exc.TorchDynamoException("no C++ compiler found\nmore lines")

    monkeypatch.setattr(layers, "_compiled_after_attention", lambda: failing)
    with pytest.raises(
        ConfigError, match=r"does not work here; training\.compile; found no C\+\+ compiler found more"
    ):
        compile_encoder(make_encoder())
