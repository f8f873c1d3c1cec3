"""The trained model in a topology: batches in, a score for each transaction out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    __package__ = "examples.fraud.model"

import pyarrow as pa

from streamdsl import ConfigError

from ..records import Transaction
from .features import FEATURES, with_features

if TYPE_CHECKING:
    from streamdsl import KeyedStream, Stream

MODEL: Final = Path(__file__).with_name("model.onnx")
#: Names of what the file says of itself.
COLUMNS, SEEDS = "columns", "seeds"
_REMEDY: Final = "train it again: make train"


@dataclass
class Scored(Transaction):
    """A transaction, where it stood, and how likely it is fraud: 0 to 1."""

    topic: str
    partition: int
    offset: int
    score: float


class Scorer:
    """Scores batches with an ONNX model, in the thread of its task.

    Parameters
    ----------
    path : Path
        Of the model.

    Raises
    ------
    ConfigError
        onnxruntime is not installed, the file is missing, or the model was trained on other columns.
    """

    def __init__(self, path: Path = MODEL) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError("the model needs onnxruntime, which is not installed", remedy="pip install 'streamdsl[ml]'") from None
        if not path.exists():
            raise ConfigError(f"there is no model at {path}", remedy=_REMEDY)
        options = onnxruntime.SessionOptions()
        # One task is one thread; several tasks would otherwise fight for the cores.
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        told = self._session.get_modelmeta().custom_metadata_map
        columns = tuple(json.loads(told.get(COLUMNS, "[]")))
        if columns != FEATURES:
            raise ConfigError(f"the model at {path} was trained on the columns {columns}, the topology has {FEATURES}", remedy=_REMEDY)

    def scores(self, features: pa.RecordBatch) -> pa.Array:
        """Return the score of each row."""
        import numpy as np

        rows = np.empty((features.num_rows, len(FEATURES)), dtype=np.float32)
        for i, name in enumerate(FEATURES):
            rows[:, i] = features.column(name).to_numpy(zero_copy_only=False)
        (probabilities,) = self._session.run(["probabilities"], {"features": rows})
        return pa.array(probabilities[:, 1].astype(np.float64))

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Put the score in the place of the features."""
        return batch.drop_columns(list(FEATURES)).append_column("score", self.scores(batch))

    def __deepcopy__(self, memo: dict[int, Any]) -> Scorer:
        # A session may be used by several threads at once, and is large.
        return self


def scored(accounts: KeyedStream, scorer: Scorer) -> Stream:
    """Return the transactions with a column `score`."""
    kept = [name for name in Scored.__dataclass_fields__ if name != "score"]
    return with_features(accounts).select(*kept, *FEATURES).map_batches(scorer, schema=Scored)
