"""What all tests share."""

from __future__ import annotations

import signal

import torch
from end_to_end.conftest import (  # noqa: F401 (fixtures that several rooms use)
    checkout,
    finetuned,
    finetuned_folder,
    prepared_folder,
    pretrained,
    pretrained_folder,
)

# A shell that starts the tests in the background has them ignore Ctrl-C, and their children with them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# So does nohup with a terminal that closes.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Several tests run side by side; each with one thread is faster than all of them with all threads.
torch.set_num_threads(1)
