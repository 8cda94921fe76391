"""One thread per process: the tests are many small steps, which threads that wait for each other only slow down."""

import os

import torch

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
torch.set_num_threads(1)
