"""Set up and run Tandem with nothing but Python: `python3 scripts/setup.py help` lists the targets."""

import os
import socket
import subprocess
import sys
from typing import Callable, Dict, List

from environment import EVERYTHING, ROOT, Failure, check_python, prepare, program, say


def chosen_port() -> int:
    """Return PORT, refused early where another program listens on it."""
    text = os.environ.get("PORT") or "8000"
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise Failure("PORT=%s is no port. Choose a number from 1024 to 65535: PORT=8001 make run" % text)
    port = int(text)
    other = "Stop the other program or choose another: PORT=%d make run" % (port + 1 if port < 65535 else 8001)
    with socket.socket() as listener, socket.socket() as caller:
        caller.settimeout(2)
        # Where a program listens on all addresses, some systems still let this one be bound.
        if caller.connect_ex(("127.0.0.1", port)) == 0:
            raise Failure("Port %d is taken. %s" % (port, other))
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except PermissionError:
            raise Failure("Port %d needs administrator rights. Choose another: PORT=8000 make run" % port) from None
        except OSError:
            raise Failure("Port %d is taken. %s" % (port, other)) from None
    return port


def target_setup(arguments: List[str]) -> int:
    """Install everything: serving, training, development, weights."""
    prepare(EVERYTHING)
    say("Ready: %s" % program("tandem"))
    return 0


def target_run(arguments: List[str]) -> int:
    """Serve the worked example at http://127.0.0.1:8000 (PORT=... for another)."""
    port = chosen_port()
    prepare(["serve"])
    status = subprocess.call([program("tandem"), "refresh"], cwd=ROOT)
    if status != 0:
        return status
    os.chdir(ROOT)
    command = [program("tandem"), "serve", "--demo", "--port", str(port)] + arguments
    if sys.platform == "win32":
        return subprocess.call(command)
    os.execv(command[0], command)


def target_test(arguments: List[str]) -> int:
    """Install everything, then run the whole test suite."""
    prepare(EVERYTHING)
    return subprocess.call([program("python"), "-m", "pytest"] + arguments, cwd=ROOT)


def target_check(arguments: List[str]) -> int:
    """Lint, formatting, types and tests: what CI runs."""
    prepare(EVERYTHING)
    for parts in (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["pytest"] + arguments,
    ):
        say("==> " + " ".join(parts))
        status = subprocess.call([program("python"), "-m"] + parts, cwd=ROOT)
        if status != 0:
            return status
    return 0


def target_bench(arguments: List[str]) -> int:
    """Run every benchmark in turn."""
    prepare(EVERYTHING)
    folder = os.path.join(ROOT, "benchmarks")
    failed = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py") and name not in ("__init__.py", "machine.py"):
            say("==> benchmarks/" + name)
            if subprocess.call([program("python"), os.path.join(folder, name)] + arguments, cwd=ROOT) != 0:
                failed.append(name)
    if failed:
        raise Failure("These benchmarks failed: " + ", ".join(failed))
    return 0


def target_help(arguments: List[str]) -> int:
    """List these targets."""
    print("make TARGET, or without make: python3 scripts/setup.py TARGET\n")
    for name in sorted(TARGETS):
        print("  %-6s %s" % (name, TARGETS[name].__doc__))
    return 0


TARGETS: Dict[str, Callable[[List[str]], int]] = {
    "setup": target_setup,
    "run": target_run,
    "test": target_test,
    "check": target_check,
    "bench": target_bench,
    "help": target_help,
}


def main(arguments: List[str]) -> int:
    """Run one target; its exit status is ours."""
    name = arguments[0] if arguments else "help"
    if name in ("-h", "--help"):
        name = "help"
    if name not in TARGETS:
        say("There is no target %r. Targets: %s." % (name, ", ".join(sorted(TARGETS))))
        return 2
    try:
        check_python(sys.version_info)
        return TARGETS[name](arguments[1:])
    except Failure as failure:
        say(str(failure))
        return 1
    except OSError as error:
        say("Set-up could not go on: %s. Mend that and run the same command again." % error)
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run the same command again to go on.")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
