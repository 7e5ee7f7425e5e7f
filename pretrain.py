"""Pretrain an encoder by masked language modelling: ``python pretrain.py NAME``."""

from __future__ import annotations

if __name__ == "__main__":
    from textclf_transformer.training.signals import die_of_interrupt

    die_of_interrupt()  # while the rest is imported, and while Python ends

import argparse
from collections.abc import Mapping, Sequence

from textclf_transformer.commands.common import print_result, run_command
from textclf_transformer.commands.estimate import StepLoad
from textclf_transformer.commands.plan import show_plan
from textclf_transformer.commands.report import report_after_training
from textclf_transformer.commands.training_run import (
    RunContext,
    open_run,
    open_splits,
    run_facts,
    training_parser,
)
from textclf_transformer.commands.training_session import train
from textclf_transformer.commands.training_task import Evaluation, Task
from textclf_transformer.config import PretrainingConfig
from textclf_transformer.data.batches import MlmBatches
from textclf_transformer.data.documents import Documents
from textclf_transformer.data.unigrams import unigram_entropy
from textclf_transformer.evaluation.evaluate import evaluate_masked_lm
from textclf_transformer.model.heads import RobertaForMaskedLM
from textclf_transformer.tokenizer.base import TokenizerWrapper
from textclf_transformer.tokenizer.loading import load_tokenizer
from textclf_transformer.training.building import attention_backend_of, build_masked_lm, compile_encoder
from textclf_transformer.training.health import Health
from textclf_transformer.training.losses import masked_lm_loss
from textclf_transformer.utils import seed_everything


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(
        training_parser("pretrain.py", "Pretrain an encoder on text, as its config says."), argv, pretrain
    )


def pretrain(arguments: argparse.Namespace) -> None:
    """Config → tokenizer, data, model → loop."""
    with open_run("pretraining", arguments) as context:
        config: PretrainingConfig = context.config
        tokenizer = load_tokenizer(
            config.tokenizer.wrapper_path, config.tokenizer.vocab_dir, trust_code=arguments.trust_code
        )
        documents = open_splits(config, tokenizer)
        batches = {split: make_batches(context, tokenizer, docs) for split, docs in documents.items()}
        seed_everything(config.experiment.seed)
        attention_backend = attention_backend_of(
            config.architecture, device=context.device, amp_dtype=context.amp_dtype
        ).name
        model = build_masked_lm(
            config.architecture,
            vocab_size=tokenizer.vocab_size,
            pad_token_id=tokenizer.pad_token_id,
            tie_mlm_weights=config.mlm_head.tie_mlm_weights,
            enhanced_mask_decoder=config.mlm_head.enhanced_mask_decoder,
            attention_backend=attention_backend,
            use_gradient_checkpointing=config.training.gradient_checkpointing,
        ).to(context.device)
        task = make_task(context, model, tokenizer, documents, batches)
        if arguments.dry_run:
            rows = batches["train"]
            head_flops = 2 * config.architecture.embedding_dim * tokenizer.vocab_size
            show_plan(
                context,
                task,
                encoder=model.encoder,
                load=StepLoad(
                    sequence_length=rows.num_tokens / rows.num_samples,
                    tokens_per_step=rows.num_tokens / rows.steps_per_epoch,
                    tokens_per_micro_batch=context.micro_batch_tokens,
                    wanted_share=config.mlm_head.mask_p,
                    head_flops_per_token=config.mlm_head.mask_p * head_flops,
                    recompute="layers" if config.training.gradient_checkpointing else "nothing",
                    amp=context.amp_dtype is not None,
                    attention_backend=attention_backend,
                    attention_dropout=config.architecture.dropouts.attention > 0,
                    extra_layers=0 if model.mask_decoder is None else 1,
                ),
                samples_per_epoch=rows.num_samples,
                tokens_per_epoch=rows.num_tokens,
            )
            return
        if config.training.compile:
            compile_encoder(model.encoder)
        test_metrics = train(context, task) or {}
        report_after_training(context)
        scores = {f"test {name}": f"{value:.4f}" for name, value in test_metrics.items()}
        print_result({"run folder": context.run.root, **scores})


def make_batches(
    context: RunContext[PretrainingConfig], tokenizer: TokenizerWrapper, documents: Documents
) -> MlmBatches:
    """Return the masked rows of one split."""
    config = context.config
    return MlmBatches(
        documents,
        tokenizer,
        max_sequence_length=config.architecture.max_sequence_length,
        mask_p=config.mlm_head.mask_p,
        mask_token_p=config.mlm_head.mask_token_p,
        random_token_p=config.mlm_head.random_token_p,
        samples_per_step=context.samples_per_step,
        tokens_per_micro_batch=context.micro_batch_tokens,
        seed=config.experiment.seed,
    )


def make_task(
    context: RunContext[PretrainingConfig],
    model: RobertaForMaskedLM,
    tokenizer: TokenizerWrapper,
    documents: Mapping[str, Documents],
    batches: Mapping[str, MlmBatches],
) -> Task[RobertaForMaskedLM]:
    """Return what the loop is handed."""

    def evaluation(split: str) -> Evaluation | None:
        if split not in batches:
            return None
        return lambda model, should_stop, _: evaluate_masked_lm(
            model,
            batches[split],
            device=context.device,
            amp_dtype=context.amp_dtype,
            should_stop=should_stop,
        )

    return Task(
        model=model,
        health=Health(
            unigram_entropy=None
            if context.arguments.dry_run
            else unigram_entropy(documents["train"], vocab_size=tokenizer.vocab_size),
            vocab_size=tokenizer.vocab_size,
        ),
        tokenizer=tokenizer,
        loss=masked_lm_loss,
        batches=batches["train"],
        metric_names=("loss", "perplexity"),
        evaluate_val=evaluation("val"),
        evaluate_test=evaluation("test"),
        best_mode="min",
        muon=context.config.training.optimizer == "muon",
        facts=run_facts(
            architecture=context.config.architecture,
            tokenizer=tokenizer,
            wrapper_path=context.config.tokenizer.wrapper_path,
            documents=documents,
        ),
        data_report={
            split: {
                "path": docs.path,
                "documents": len(docs),
                "rows": batches[split].num_samples,
                "tokens": batches[split].num_tokens,
                "tokens_dropped": 0,
            }
            for split, docs in documents.items()
        },
    )


if __name__ == "__main__":
    raise SystemExit(main())
