"""One engine in a process of its own, so that no library meets another and one that dies takes none with it.

    worker.py JSON          an object: `module` of engines/, its `options`, the `case`

Answers in lines of JSON: first that the features are written, or the reason why the engine cannot run here; then, for every number of runs that
comes in, the seconds they took. The libraries' own words go to stderr.
"""

import importlib
import json
import os
import sys

import numpy as np

import common


def reason(error):
    said = " ".join(str(error).split())[:400]
    return said if isinstance(error, common.Unavailable) else f"{type(error).__name__}: {said}"


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    say = lambda **answer: print(json.dumps(answer), file=answers, flush=True)
    job = json.loads(sys.argv[1])
    try:
        engine = importlib.import_module(f"engines.{job['module']}").Peer(job["case"], **job["options"])
        np.save(job["out"], np.asarray(engine.features(), np.float32))
        say(version=engine.version)
        for line in sys.stdin:
            say(**engine.seconds(int(line)))
    except (Exception, SystemExit) as error:
        say(reason=reason(error))
    answers.flush()
    os._exit(0)  # some drivers die when they are taken down


if __name__ == "__main__":
    main()
