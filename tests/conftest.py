"""What all tests share."""

from __future__ import annotations

import torch
from end_to_end.conftest import (  # noqa: F401 (fixtures that several rooms use)
    checkout,
    finetuned,
    finetuned_folder,
    prepared_folder,
    pretrained,
    pretrained_folder,
)

# Several tests run side by side; each with one thread is faster than all of them with all threads.
torch.set_num_threads(1)
