"""A process that has imported everything and forks a real training process for each request.

A run of the torture suite lasts a few hundred milliseconds, the imports before it seconds: they are made
once. What is forked is a process of its own, with its own memory, files, lock and signals, that calls the
command's ``main``; killing it is as real as killing any. Of the interpreter's shutdown it does what can
matter (threads joined, exit functions called, streams flushed) and leaves out the second in which torch's
modules are taken apart.

Run as a program: reads a JSON line from stdin for each request, answers with a line ``{"pid": …}`` when it
is started, one ``{"stopped": true}`` each time it halts, and one ``{"code": …}`` when it has ended.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import threading
from typing import Any, NoReturn

from torture.hook import Hook

MODULES = (
    "pretrain",
    "finetune",
    "experiments.generate_pretraining_experiment",
    "experiments.generate_finetuning_experiment",
    "textclf_transformer.commands.prepare",
    "textclf_transformer.commands.train_tokenizer",
    "torch._dynamo",  # which the first optimizer of a process imports, for more than a second
)


def serve() -> None:
    """Answer requests until stdin ends."""
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()  # the collections of the processes to come need not look at all this
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            work(request)
        answer({"pid": pid})
        while True:
            _, status = os.waitpid(pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            answer({"stopped": True})
        answer({"code": os.waitstatus_to_exitcode(status)})


def answer(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def work(request: dict[str, Any]) -> NoReturn:
    """Be the process that was asked for; never returns."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    if request.get("file_size_limit") is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size_limit"],) * 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python sets it at its start
    if request.get("float16"):
        import torch

        from textclf_transformer.commands import training_run

        # the config refuses float16 on a CPU, where it is slow; the scaler's state is the same there
        training_run.choose_amp_dtype = lambda *_, **__: torch.float16  # type: ignore[assignment]
    hook = Hook(**request["hook"]) if request.get("hook") else None
    module = sys.modules[request["module"]]
    if hasattr(module, "report_after_training") and (hook is None or hook.phase != "shutdown"):
        # a second of drawing, after all that a resume or a comparison looks at; kills in the shutdown see it
        module.report_after_training = lambda *_, **__: None  # type: ignore[attr-defined]
    if hook is not None:
        hook.install()
    try:
        code = module.main(request["arguments"])
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    leave(code, hook)


def leave(code: int, hook: Hook | None) -> NoReturn:
    """Shut down as the interpreter does, as far as anything of the run could be concerned."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if hook is not None:
        hook.finish()
    os._exit(code)


if __name__ == "__main__":
    serve()
