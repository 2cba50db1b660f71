"""`python -m meshd.worker --fd N`: what a daemon starts; N is its end of an inherited socket pair.

Exit codes: 0 the last step is committed, 1 the run failed (the daemon was told why), 2 usage.
"""

from __future__ import annotations

import argparse
import sys

from meshd.core.errors import MeshdError
from meshd.core.messages import WorkerPlan
from meshd.net.worker_link import WorkerEnd
from meshd.worker.lifeline import Lifeline, die_with_parent


def main() -> int:
    """Read the plan, then run it."""
    parser = argparse.ArgumentParser(prog="meshd.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="inherited socket to the daemon")
    arguments = parser.parse_args()
    die_with_parent()
    try:
        link = WorkerEnd(arguments.fd)
        plan = link.receive()
        if not isinstance(plan, WorkerPlan):
            print("meshd worker: the daemon sent no plan", file=sys.stderr)
            return 2
        lifeline = Lifeline(link)
        lifeline.start()
        # torch takes seconds to load; from here on the lifeline ends the process if the daemon does
        from meshd.worker.run import run_plan

        lifeline.exit(run_plan(plan, lifeline))
    except MeshdError as error:
        print(f"meshd worker: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
