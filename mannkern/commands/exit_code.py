"""How a command line ends: with an exit code and at most one line on stderr, never a traceback of a foreseen error."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mannkern.streams import mended_streams
from mannkern.training.errors import CommandError, file_error, is_full, is_out_of_memory, one_line


def exit_code(name: str, command: Callable[[], int]) -> int:
    """The exit code of ``command``, whose errors are a line on stderr that begins with ``name``.

    After an error it is 2, or 1 where a disk is full; after Ctrl-C 130; 141 where nobody reads the output to its end.
    """
    with mended_streams():
        return _exit_code(name, command)


def _exit_code(name: str, command: Callable[[], int]) -> int:
    try:
        code = command()
        sys.stdout.flush()  # here a closed pipe is an answer, at the exit of Python it would be a traceback
        return code
    except CommandError as error:
        print(f"{name}: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads the output, such as head, has read enough
        return 141  # what a shell says of SIGPIPE
    except OSError as error:
        print(f"{name}: {one_line(file_error(error))}", file=sys.stderr)
        return 1 if is_full(error) else 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"{name}: not enough memory; lower the batch size or the sizes of the model", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        return 130
