import torch

# Small tensors: a second thread would only wait, badly so on a busy machine.
torch.set_num_threads(1)
