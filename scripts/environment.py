"""The environment `.venv` of a clone: create it, install the packages, put the weights in place.

Standard library only, in syntax that Python 3.6 reads: an old Python is to be refused in one clear line.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import IO, Any, Dict, Iterator, List, Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, TOO_NEW = (3, 11), (3, 14)
EVERYTHING = ["serve", "train", "dev"]
NO_NETWORK = re.compile(
    r"NewConnectionError|Failed to establish|name resolution|NameResolutionError|getaddrinfo|ConnectTimeout"
    r"|ReadTimeout|timed out|Connection (refused|reset|aborted)|Max retries|unreachable|ProxyError"
)
# Run by the environment's own Python: is it a version we serve, and is its pip whole?
HEALTH = """
import importlib.metadata, sys
if not {oldest} <= sys.version_info[:2] < {too_new}: sys.exit(1)
files = importlib.metadata.files("pip")
sys.exit(not files or not all(f.locate().exists() for f in files if f.suffix == ".py"))
"""
# Run by the environment's own Python after an install was cut: pip takes a half-copied package for an
# installed one, so what is not whole loses its record and pip copies it anew.
FORGET_HALF_COPIES = """
import importlib.metadata, shutil
for found in list(importlib.metadata.distributions()):
    record = found._path
    if record.suffix != ".dist-info": continue
    names = found.files
    if not names or not all(f.locate().exists() for f in names if f.suffix != ".pyc"):
        shutil.rmtree(record)
"""


class Failure(Exception):
    """Carry the one line that tells the user what to do."""


def say(line: str) -> None:
    """Show a progress line; stdout stays free for the commands that are run."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Name a step and, once it is done, its seconds."""
    say("==> " + title)
    started = time.time()
    yield
    say("    done in %.0f s" % (time.time() - started))


def check_python(version: Sequence[Any]) -> None:
    """Refuse a Python that the packages do not support."""
    if not OLDEST <= tuple(version[:2]) < TOO_NEW:
        here = ".".join(str(part) for part in version[:3])
        raise Failure(
            "Tandem needs Python 3.11, 3.12 or 3.13, and this is Python %s. Install one of them and name it: "
            "make setup PYTHON=python3.12" % here
        )


def venv_path(*parts: str) -> str:
    """Return a path inside the environment."""
    return os.path.join(ROOT, ".venv", *parts)


def program(name: str) -> str:
    """Return a program of the environment, on Windows too."""
    if sys.platform == "win32":
        return venv_path("Scripts", name + ".exe")
    return venv_path("bin", name)


def write_stamp(path: str, content: Dict[str, str]) -> None:
    """Write a stamp whole or not at all."""
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    os.replace(path + ".new", path)


def read_stamp(path: str) -> Dict[str, str]:
    """Return a stamp's content, {} where there is none to read."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def python_works() -> bool:
    """Tell whether the environment's Python starts, has a served version and a whole pip."""
    code = HEALTH.format(oldest=OLDEST, too_new=TOO_NEW)
    try:
        done = subprocess.run([program("python"), "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0


def ensure_venv() -> None:
    """Create the environment, or create it anew where a killed call or a changed Python left it broken."""
    stamp = venv_path("tandem-venv.json")
    if os.path.exists(stamp) and python_works():
        return
    # No stamp: a call killed while creating it, or an environment that the user made, which is kept if whole.
    if not (python_works() and os.path.exists(os.path.join(os.path.dirname(program("python")), "activate"))):
        with step("Creating .venv"):
            if os.path.isdir(venv_path()):
                shutil.rmtree(venv_path())
            create_venv()
    write_stamp(stamp, {"python": sys.version.split()[0]})


def create_venv() -> None:
    """Run `venv`, whose most common failure is Debian's missing package."""
    done = subprocess.run(
        [sys.executable, "-m", "venv", venv_path()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode == 0:
        return
    if "ensurepip" in done.stdout:
        raise Failure("Python's venv is incomplete here. Install it (Debian, Ubuntu: apt install python3-venv).")
    raise Failure("Could not create .venv: " + (done.stdout.strip().splitlines() or ["no reason given"])[-1])


def fingerprint() -> str:
    """Hash what decides which packages are installed, and where: a moved clone is installed anew."""
    digest = hashlib.sha256(ROOT.encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as stream:
            digest.update(stream.read() + b"\0")
    return digest.hexdigest()


def ensure_packages(wanted: List[str]) -> None:
    """Install the wanted sets (serve, train, dev) unless these very versions are there already."""
    stamp = venv_path("tandem-packages.json")
    installed, now = read_stamp(stamp), fingerprint()
    if os.path.exists(program("tandem")) and all(installed.get(name) == now for name in wanted):
        return
    extras = [name for name in wanted if name != "serve"]
    with step("Installing packages (%s); the first time takes minutes" % ", ".join(wanted)):
        cut = venv_path("tandem-installing")
        if os.path.exists(cut):
            subprocess.run([program("python"), "-c", FORGET_HALF_COPIES])
        open(cut, "w").close()
        target = "." + ("[%s]" % ",".join(extras) if extras else "")
        pip(["install", "--editable", target, "--constraint", "constraints.txt"])
        installed.update({name: now for name in wanted})
        write_stamp(stamp, installed)
        os.remove(cut)


def pip(arguments: List[str]) -> None:
    """Run the environment's pip with its output in a log, showing every 20 s that it is alive."""
    log = venv_path("tandem-install.log")
    command = [program("python"), "-m", "pip"] + arguments
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    # As a variable it also reaches the pip that fetches the build backend; the default of 5 takes a minute.
    settings = dict(os.environ, PIP_RETRIES=os.environ.get("PIP_RETRIES", "2"))
    with open(log, "w", encoding="utf-8") as stream:
        child = subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=stream, stderr=subprocess.STDOUT, close_fds=False
        )
        try:
            wait_and_show(child, log)
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if child.returncode != 0:
        raise Failure(pip_failure(log))


def wait_and_show(child: "subprocess.Popen[bytes]", log: str) -> None:
    """Wait for pip and count what it has found so far."""
    started = time.time()
    while True:
        try:
            child.wait(timeout=20)
            return
        except subprocess.TimeoutExpired:
            with open(log, encoding="utf-8", errors="replace") as stream:
                found = sum(line.startswith("Collecting") for line in stream)
            say("    %.0f s, %d packages found" % (time.time() - started, found))


def pip_failure(log: str) -> str:
    """Put pip's failure into one line."""
    with open(log, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in stream if line.strip()]
    rest = " (pip's full output: %s)" % log
    # Early warnings may have been overcome, unless they say that no further try is left.
    if NO_NETWORK.search("\n".join([line for line in lines if "total=0" in line] + lines[-40:])):
        return "No network: the package index could not be reached. Connect and run the same command again." + rest
    # What pip leaves without a warning where it may not try again: no index offers any version at all.
    if any("(from versions: none)" in line for line in lines[-40:]):
        return "No network: no package index offers what is needed. Connect and run the same command again." + rest
    if any("No space left" in line for line in lines):
        return "No space left on the disk. Make room and run the same command again." + rest
    errors = [line for line in lines if line.lower().startswith("error:")] or lines or ["pip said nothing"]
    return "Installing failed: " + errors[-1] + rest


def ensure_weights() -> None:
    """Put the local models into the user's cache; the module says itself what goes wrong."""
    if subprocess.call([program("python"), "-m", "bot.weights"], cwd=ROOT) != 0:
        sys.exit(1)


def try_lock(stream: IO[str]) -> bool:
    """Lock an open file for this process; False where another holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep two set-ups of one clone apart; the system lifts the lock with the last process that holds it."""
    with open(os.path.join(ROOT, ".venv.lock"), "w") as stream:
        if not try_lock(stream):
            say("==> Waiting for another set-up of this clone to finish")
            while not try_lock(stream):
                time.sleep(1)
        # Handed on (close_fds=False) to venv and pip: where only this process is killed, they work on alone,
        # and the next call waits for them instead of writing into the same folders.
        os.set_inheritable(stream.fileno(), True)
        yield


def prepare(sets: List[str]) -> None:
    """Bring environment, packages and weights; what is there already is left alone."""
    with alone():
        ensure_venv()
        ensure_packages(sets)
        ensure_weights()
