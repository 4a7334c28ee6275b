"""The command line: ``meddino`` and ``python -m meddino``."""

import signal
import sys

from . import _meddino


def main() -> int:
    """Runs the command with this process's arguments, and returns its exit code."""
    # The command handles Ctrl-C; Python would only note it until the command has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _meddino.run_command(["meddino", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
