"""An exported network run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from adaptive_depth.onnx_graph import IMAGE, LOGITS, flag_names
from adaptive_depth.skip import SkipFlags


class OnnxModel:
    """One session, any sub-network per call.

    Args:
        path: of the ONNX file.
        threads: of onnxruntime's pool; 0 means one per core.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning threads slow down whatever else runs on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.flags = sum(value.type == "tensor(bool)" for value in self.session.get_inputs())

    def logits(self, images: np.ndarray, skip: SkipFlags) -> np.ndarray:
        """float32 ``[N,classes]`` of images uint8 ``[N,H,W,3]``."""
        names = flag_names(self.flags)
        feeds = {name: np.asarray(flag) for name, flag in zip(names, skip, strict=True)}
        (logits,) = self.session.run([LOGITS], {IMAGE: images, **feeds})
        return logits
