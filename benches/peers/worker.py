"""Runs one engine in a process of its own, so that libraries cannot conflict and a crash ends only this engine.

    worker.py JSON          an object: `module` of engines/, its `options`, the `case`

Answers in lines of JSON. The first says that the features are written, or why the engine cannot run here. Then each
number of runs on stdin is answered with their seconds. The libraries' own messages go to stderr, and on
SIGUSR1 the lines of code that the threads are in.
"""

import faulthandler
import importlib
import json
import os
import signal
import sys
import traceback

import numpy as np

import common


def reason(error):
    message = " ".join(str(error).split())[:400]
    return message if isinstance(error, common.Unavailable) else f"{type(error).__name__}: {message}"


def main():
    faulthandler.register(signal.SIGUSR1)  # run.py sends it to an engine that takes too long
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
        traceback.print_exc()
        say(reason=reason(error))
    answers.flush()
    os._exit(0)  # skips the shutdown of drivers, in which some crash


if __name__ == "__main__":
    main()
