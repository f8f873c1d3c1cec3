"""Train the model on generated transactions: ``make train``, or ``python examples/fraud/model/train.py --help``.

Needs `pip install 'streamdsl[train]'`; `--judge-only` needs `streamdsl[ml]`. The same seeds give the same model. It is judged on data
of another seed, beside the rules.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    __package__ = "examples.fraud.model"

import numpy as np

from streamdsl import Topology, files

from .. import data
from ..records import Planted, Transaction
from ..topology import build
from .features import FEATURES, with_features
from .scorer import COLUMNS, MODEL, SEEDS, Scorer

TRAINED_ON: Final = (101, 102, 103)
JUDGED_ON: Final = 7
#: The share of honest transactions that it learns from.
HONEST: Final = 0.1


class Sample(NamedTuple):
    """Transactions as the model sees them."""

    ids: list[int]
    features: Any
    truth: Mapping[int, Planted]


def seen(made: data.Sample) -> Sample:
    """Return the features of a sample, computed by the topology that will score."""
    topology = Topology("features")
    source = files(made.transactions, schema=Transaction)
    accounts = topology.stream(source, timestamp="event_time", disorder="5s", name="transactions").key_by("account_number")
    rows = with_features(accounts).select("transaction_id", *FEATURES).collect()
    features = np.stack([rows[name].to_numpy().astype(np.float32) for name in FEATURES], axis=1)
    return Sample(rows["transaction_id"].to_pylist(), features, data.read_truth(made.truth))


def trained(samples: Sequence[Sample]) -> Any:
    """Return a classifier."""
    from sklearn.ensemble import GradientBoostingClassifier

    features = np.concatenate([sample.features for sample in samples])
    fraud = np.concatenate([[number in sample.truth for number in sample.ids] for sample in samples])
    # Nearly all is honest: a part of it says as much, and counts for the rest.
    chosen = fraud | (np.random.default_rng(0).random(len(fraud)) < HONEST)
    weights = np.where(fraud, 1.0, 1 / HONEST)[chosen]
    # verbose: the library tells of each tree, and how long the rest takes.
    model = GradientBoostingClassifier(verbose=1, n_estimators=100, max_depth=5, learning_rate=0.15, min_samples_leaf=20, random_state=0)
    return model.fit(features[chosen], fraud[chosen], weights)


def save(model: Any, seeds: Sequence[int], path: Path) -> None:
    """Write the model as ONNX; it names its columns and the seeds of its data."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    inputs = [("features", FloatTensorType([None, len(FEATURES)]))]
    converted = to_onnx(model, initial_types=inputs, options={id(model): {"zipmap": False}}, target_opset=17)
    for name, value in ((COLUMNS, FEATURES), (SEEDS, seeds)):
        entry = converted.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value)
    path.write_bytes(converted.SerializeToString(deterministic=True))


def judge(name: str, alerted: Collection[int], truth: Mapping[int, Planted]) -> str:
    """Return a line with precision and recall, and the share of each kind that is found."""
    kinds: dict[str, set[int]] = {}
    found: dict[str, set[int]] = {}
    for number, planted in truth.items():
        kinds.setdefault(planted.kind, set()).add(planted.incident)
        if number in alerted:
            found.setdefault(planted.kind, set()).add(planted.incident)
    right = sum(number in truth for number in alerted) / max(len(alerted), 1)
    recall = sum(map(len, found.values())) / sum(map(len, kinds.values()))
    each = " ".join(f"{len(found.get(kind, ())) / len(all_):>14.1%}" for kind, all_ in sorted(kinds.items()))
    return f"{name:16} {right:>9.1%} {recall:>7.1%} {each}"


def alerted(made: data.Sample, **options: Any) -> set[int]:
    """Return the transactions with an alert."""
    from streamdsl import memory

    out = memory("alerts")
    build("all", **options).run(bind={"transactions": files(made.transactions, schema=Transaction), "alerts": out})
    return {row["transaction_id"] for row in out.rows()}


def report(made: data.Sample, scorer: Scorer) -> str:
    """Return the table of rules, model and both on a sample."""
    import pyarrow as pa

    from ..topology import SURE

    sample = seen(made)
    batch = pa.RecordBatch.from_arrays([pa.array(sample.features[:, i]) for i in range(len(FEATURES))], names=list(FEATURES))
    scores = scorer.scores(batch).to_pylist()
    alone = {number for number, score in zip(sample.ids, scores, strict=True) if score >= SURE}
    kinds = sorted({planted.kind for planted in sample.truth.values()})
    return "\n".join(
        [
            f"{'':16} precision  recall " + " ".join(f"{kind:>14}" for kind in kinds),
            judge("rules", alerted(made), sample.truth),
            judge("model", alone, sample.truth),
            judge("rules and model", alerted(made, scorer=scorer), sample.truth),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train, save, judge."""
    parser = argparse.ArgumentParser(description="Train the model of the fraud example, and judge it on data of another seed.")
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=TRAINED_ON, metavar="N", help="of the data that it learns from")
    add("--judge", type=int, default=JUDGED_ON, metavar="N", help="seed of the data that it is judged on")
    add("--transactions", type=int, default=data.TRANSACTIONS, metavar="N", help="of each sample")
    add("--output", type=Path, default=MODEL, metavar="FILE")
    add("--judge-only", action="store_true", help="judge the model that is there")
    asked = parser.parse_args(argv)

    def made(seed: int, place: Path) -> data.Sample:
        accounts = max(40, asked.transactions // 40)
        return data.generate(place / str(seed), asked.transactions, accounts, seed, kind="habits")

    with tempfile.TemporaryDirectory(prefix="fraud-model-") as place:
        if not asked.judge_only:
            samples = []
            for seed in asked.seeds:
                print(f"transactions of seed {seed}", flush=True)
                samples.append(seen(made(seed, Path(place))))
            print("training", flush=True)
            save(trained(samples), list(asked.seeds), asked.output)
            print(f"{asked.output}: {asked.output.stat().st_size:,} bytes", flush=True)
        print(f"judged on seed {asked.judge}", flush=True)
        print(report(made(asked.judge, Path(place)), Scorer(asked.output)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
