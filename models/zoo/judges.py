"""The zoo's own judges as ONNX graphs: what sees its digits and emoji as features. Torch-free.

`python -m training.metrics.graphs` makes the graphs from the judges that the recipes trained.
"""

import importlib.util
from pathlib import Path

from models.zoo.fetch import WEIGHTS, WEIGHTS_PACKAGE, ZooError

JUDGES = {"digits": "digits-judge.onnx", "emoji": "emoji-judge.onnx"}


def judge_of(source: str) -> Path:
    """The judge for a model, by its manifest's source, such as `zoo digits-gan: ...`.

    Raises:
        ZooError: there is none, or it is not installed.
    """
    entry = source.removeprefix("zoo ").partition(":")[0]
    found = [file for family, file in JUDGES.items() if source.startswith("zoo ") and entry.split("-")[0] == family]
    if not found:
        raise ZooError(
            f"no judge is known for a model from {source or 'an unknown source'!r}: the zoo has them for its digits "
            "and emoji; give an ONNX graph in place of `judge`"
        )
    folder = WEIGHTS
    if not folder.is_dir():
        package = importlib.util.find_spec(WEIGHTS_PACKAGE)
        if package is None or package.origin is None:
            raise ZooError("the judges are in the package ganserve-zoo-weights, which is not installed")
        folder = Path(package.origin).parent
    return folder / found[0]
