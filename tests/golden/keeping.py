"""Records on disk: an index, and all numbers of one dtype in a row, compressed; no pickle.

A group has hundreds of small arrays, of which each would cost `.npz` more than its numbers.
"""

import json
from pathlib import Path

import numpy as np

from .traces import Record

RECORDS = Path(__file__).parent / "records"
INDEX = "index"


def path_of(group: str) -> Path:
    return RECORDS / f"{group.replace(' ', '-')}.npz"


def save(group: str, record: Record) -> None:
    rows: dict[str, list[np.ndarray]] = {}
    index: dict[str, list] = {}
    for name, values in record.items():
        if values.dtype.kind == "U":
            index[name] = [INDEX, values.tolist()]
            continue
        dtype = str(values.dtype)
        index[name] = [dtype, list(values.shape)]
        rows.setdefault(dtype, []).append(values.ravel())
    whole = {dtype: np.concatenate(each) for dtype, each in rows.items()}
    text = np.frombuffer(json.dumps(index).encode(), np.uint8)
    RECORDS.mkdir(exist_ok=True)
    np.savez_compressed(path_of(group), **{INDEX: text}, **whole)


def load(group: str) -> Record:
    with np.load(path_of(group), allow_pickle=False) as file:
        whole = {name: file[name] for name in file.files}
    index = json.loads(whole.pop(INDEX).tobytes())
    record, taken = {}, dict.fromkeys(whole, 0)
    for name, (dtype, held) in index.items():
        if dtype == INDEX:
            record[name] = np.array(held)
            continue
        begun = taken[dtype]
        taken[dtype] += int(np.prod(held))
        record[name] = whole[dtype][begun : taken[dtype]].reshape(held)
    return record
