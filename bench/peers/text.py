"""What every peer trains on: a text of 27 symbols, and its columns in the order of the notebook's generator."""

import zipfile

import numpy as np

SYMBOLS = 27
VALID_SIZE = 1000


class Corpus:
    """The leading `VALID_SIZE` symbols validate, the rest trains; id 0 is the space, 1 to 26 are a to z."""

    def __init__(self, path, chars=None):
        ids = np.frombuffer(read(path, chars), np.uint8).astype(np.int32)
        ids = np.where(ids == ord(" "), 0, ids - (ord("a") - 1)).astype(np.int32)
        if ((ids < 0) | (ids >= SYMBOLS)).any():
            raise ValueError(f"{path} holds more than a-z and space")
        # The last prediction wraps to the first character.
        self.valid = np.append(ids[:VALID_SIZE], ids[0])
        self.train = ids[VALID_SIZE:]

    def steps(self, batch_size, unrollings, first, count):
        """The columns of steps `first` to `first + count - 1`: `[count, unrollings + 1, batch_size]`.

        Neighbours share a column: the labels of a step's end are the inputs of the next one's begin.
        """
        rows = np.arange(batch_size) * (len(self.train) // batch_size)
        columns = (first + np.arange(count))[:, None] * unrollings + np.arange(unrollings + 1)
        return self.train[(columns[:, :, None] + rows) % len(self.train)]


def read(path, chars):
    if not str(path).endswith(".zip"):
        with open(path, "rb") as file:
            return file.read() if chars is None else file.read(chars)
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
        return member.read() if chars is None else member.read(chars)
