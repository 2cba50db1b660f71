"""`python -m meshd.worker.inspect FILE`: is this a data file that a job can train on?

Prints one JSON object {"input", "classes", "train", "test"}, "input" the shape of a sample as a
network sees it, and exits with 0; or one line on stderr that says what is wrong, and 2. The daemon
runs it before it accepts a job, in a process of its own, since reading arrays takes numpy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from meshd.data.errors import DataError
from meshd.data.load import load_npz


def main() -> int:
    """Check the file named by the only argument."""
    if len(sys.argv) != 2:
        print("usage: python -m meshd.worker.inspect FILE", file=sys.stderr)
        return 2
    try:
        data = load_npz(Path(sys.argv[1]))
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except MemoryError:
        print(
            f"data file {Path(sys.argv[1]).name}: needs more memory than is free", file=sys.stderr
        )
        return 2
    facts = {
        "input": data.input_shape,
        "classes": data.classes,
        "train": len(data.y_train),
        "test": len(data.y_test),
    }
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
