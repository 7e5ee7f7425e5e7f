"""What all tests share."""

from __future__ import annotations

import torch

# Several tests run side by side; each with one thread is faster than all of them with all threads.
torch.set_num_threads(1)
