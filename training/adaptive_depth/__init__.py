"""Training toolkit for adaptive depth networks (Kang & Lee, NeurIPS 2024, arXiv 2312.16392)."""

__version__ = "0.1.0"
