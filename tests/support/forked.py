"""Work in a forked child, for programs that tests start."""

import json
import os
import signal
import time


def in_child(work, limit=20.0):
    """What ``work()`` returns in a forked child, as JSON keeps it, or "hangs" after so many seconds."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = json.dumps(work())
        except BaseException as error:
            answer = json.dumps(repr(error))
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    end = time.monotonic() + limit
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(read)
            return "hangs"
        time.sleep(0.01)
    answer = os.read(read, 100_000)
    os.close(read)
    return json.loads(answer)
