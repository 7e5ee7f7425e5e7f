"""``textclf VERB …``: finds the verb's module and hands the rest of the line to its ``main``."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

from textclf_transformer.commands.common import CommandParser, add_common_flags, run_command
from textclf_transformer.errors import UsageError
from textclf_transformer.training.signals import die_of_interrupt

# Imported only when asked for, so that `textclf --help` does not wait for torch.
VERBS = {
    "prepare": ("textclf_transformer.commands.prepare", "read text and write a token store"),
    "train-tokenizer": ("textclf_transformer.commands.train_tokenizer", "learn a tokenizer from text"),
    "audit": ("textclf_transformer.commands.audit", "look for what is wrong with a data set"),
    "evaluate": ("textclf_transformer.commands.evaluate", "judge a finetuned model beside baselines"),
    "export": ("textclf_transformer.commands.export", "write a run as Hugging Face's transformers loads it"),
    "compare": ("textclf_transformer.commands.compare", "show runs side by side"),
    "predict": ("textclf_transformer.commands.predict", "classify new documents"),
    "report": ("textclf_transformer.commands.report", "show everything about a run in one page"),
    "serve": ("textclf_transformer.commands.serve", "classify documents on a page in the browser"),
}
# No verbs, but what one may look for among them.
TRAINING = {"pretrain": "python pretrain.py NAME", "finetune": "python finetune.py NAME"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that ``argv`` (default: the process's arguments) begins with; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in VERBS:
        if argv is None:  # a caller's process keeps its Ctrl-C
            die_of_interrupt()
        module = importlib.import_module(VERBS[arguments[0]][0])
        return int(module.main(arguments[1:]))
    return run_command(_parser(), arguments, _without_verb)


def _parser() -> CommandParser:
    verbs = "\n".join(f"  {verb:<16} {meaning}" for verb, (_, meaning) in VERBS.items())
    parser = CommandParser(
        prog="textclf",
        usage="textclf VERB [ARGUMENT …]",
        description="Long-document classifiers, pretrained and finetuned on your own text.",
        epilog=f"verbs:\n{verbs}\n\n`textclf VERB --help` explains a verb. Training has commands of its own: "
        f"{', '.join(TRAINING.values())}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_flags(parser)
    parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _without_verb(arguments: argparse.Namespace) -> None:
    """Say what is wrong with a line that does not begin with a verb."""
    verbs = ", ".join(VERBS)
    if arguments.verb is None:
        raise UsageError("which verb?", expected=f"one of {verbs}", mend="see textclf --help")
    if arguments.verb in VERBS:
        raise UsageError("flags come after the verb", mend=f"textclf {arguments.verb} --help lists them")
    nearest = difflib.get_close_matches(arguments.verb, [*VERBS, *TRAINING], n=1, cutoff=0.0)[0]
    raise UsageError(
        "unknown verb",
        found=repr(arguments.verb),
        expected=f"one of {verbs}",
        mend=f"did you mean {TRAINING.get(nearest, nearest)}?",
    )
