"""What sweep.py and continuous.py share: files that appear whole, locks, and running the program."""
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys

DONE, FAILED, USAGE, INPUT, STOPPED = 0, 1, 2, 3, 75  # exit statuses, as those of stemfabric
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SEAL = "contentsSha256"  # of a JSON file: the SHA-256 of its text with these 64 digits as zeros
NO_SEAL = "0" * 64


class Failure(Exception):
    """An error for the user: what, where, what to do; and the exit status."""

    def __init__(self, message, status=FAILED):
        super().__init__(message)
        self.status = status


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_disk(path):
    """Brings a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path, text):
    """Whole or not at all, also if the machine stops meanwhile."""
    path = pathlib.Path(path)
    beside = path.with_name(f"{path.name}.partial-{os.getpid()}")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    to_disk(path.parent)


def copy_file(source, target):
    """Whole or not at all, as write_text."""
    target = pathlib.Path(target)
    beside = target.with_name(f"{target.name}.partial-{os.getpid()}")
    shutil.copyfile(source, beside)
    to_disk(beside)
    os.replace(beside, target)
    to_disk(target.parent)


def remove_partial(folder):
    """What a killed call left half-written; the caller has the folder's lock."""
    for path in pathlib.Path(folder).glob("*.partial-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text):
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path, value):
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_sealed(path, value):
    """With the hash of its own contents, by which read_sealed notices changes."""
    text = json.dumps({**value, SEAL: NO_SEAL}, indent=1, ensure_ascii=False) + "\n"
    digits = sha256_text(text)
    at = text.rindex(NO_SEAL)
    write_text(path, text[:at] + digits + text[at + len(digits):])


def read_json(path):
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise Failure(f"{path}: cannot be read as JSON ({error})", INPUT) from error


def read_versioned(path, form, version):
    """A JSON file that one of the scripts wrote: of its format and version, and with a right hash if it has one."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        value = json.loads(text)
    except (ValueError, OSError) as error:
        raise Failure(f"{path}: cannot be read as JSON ({error}); restore it from a backup", INPUT) from error
    if not isinstance(value, dict) or value.get("format") != form:
        raise Failure(f"{path}: is no file of the format {form}; choose another folder", INPUT)
    if value.get("version") != version:
        raise Failure(f"{path}: has version {value.get('version')} of {form}, this script reads {version}; use the "
                      "version of stemfabric that wrote it, or another folder", INPUT)
    digits = value.get(SEAL)
    if digits is not None:
        at = text.rfind(str(digits))
        if at < 0 or sha256_text(text[:at] + NO_SEAL + text[at + len(NO_SEAL):]) != digits:
            raise Failure(f"{path}: was changed or damaged: it does not have the SHA-256 that it states as `{SEAL}`; "
                          "restore it from a backup (or, if the change was meant, remove that entry)", INPUT)
    return value


class FolderLock:
    """One at a time in a folder. Programs that are started with `lock.handle` kept open keep the lock too, so that
    it lasts until the last of them has ended, whatever became of the script."""

    def __init__(self, folder, what):
        path = pathlib.Path(folder) / ".lock"
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self.handle, 200, 0).decode(errors="replace").strip()
            os.close(self.handle)
            if not isinstance(error, BlockingIOError):
                raise Failure(f"{path}: cannot be locked ({error.strerror}); choose a folder on a file system with "
                              "locks") from error
            raise Failure(f"{folder}: {what} is at work here ({holder or 'just started'}); wait for its end") from error
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, f"process {os.getpid()} on {socket.gethostname()} since {now()}\n".encode(), 0)

    def release(self):
        os.close(self.handle)


def program():
    """argv of stemfabric."""
    name = os.environ.get("STEMFABRIC", "stemfabric")
    found = shutil.which(name)
    if found is None:
        raise Failure(f"{name}: there is no such program; put stemfabric on PATH, or name it in STEMFABRIC", USAGE)
    return [found]


def error_of(text):
    """What stemfabric said, the last error in `text`, without the names of program and command; "" if it said none."""
    found = ""
    for line in text.splitlines():
        head, mark, tail = line.partition(": error: ")
        if mark and "stemfabric" in head:
            found = tail
    return found


class Runner:
    """Runs programs one after the other. A signal that asks to stop goes to the one that runs, as SIGUSR1, which a
    training answers with a checkpoint and srun and mpirun pass on; no other is started after it."""

    def __init__(self):
        self.process = None
        self.stop = None  # name of the signal
        for sign in STOP_SIGNALS:
            signal.signal(sign, self._on_signal)

    def _on_signal(self, number, _frame):
        self.stop = signal.Signals(number).name
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)

    def require_not_stopped(self):
        if self.stop:
            raise Failure(f"stopped by {self.stop}; run the same command again to go on", STOPPED)

    def run(self, argv, keep=(), **how):
        """Exit status (128 + signal if it was killed) and, where `how` asks for pipes, stdout and stderr."""
        self.require_not_stopped()
        # A session of its own: a terminal's Ctrl-C comes once, from here.
        self.process = subprocess.Popen(argv, start_new_session=True, pass_fds=keep, text=True, errors="replace", **how)
        if self.stop:  # came in between
            self.process.send_signal(signal.SIGUSR1)
        out, err = self.process.communicate()
        status = self.process.returncode
        self.process = None
        return (status if status >= 0 else 128 - status), out, err


def launcher(text):
    """argv that goes before a training's: `srun --mpi=pmix`, say."""
    return shlex.split(text or "")


def printed_configuration(config, settings):
    """The effective configuration as {key: text of the value}; Failure with the program's words if it is not valid."""
    argv = program() + ["config", "--print", *config_arguments(config, settings)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(error_of(done.stderr) or done.stderr.strip() or f"{argv[0]} cannot be run", done.returncode)
    keys, sections = {}, []
    for line in done.stdout.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, value = text.partition(":")
        sections = sections[:depth] + [name]
        value = value.rpartition("  # ")[0].strip()
        if value:
            keys[".".join(sections)] = value
    return keys


def config_arguments(config, settings):
    return (["--config", str(config)] if config else []) + [word for s in settings for word in ("--set", s)]


def main(run):
    """Runs `run()`; a Failure becomes one line on stderr and the exit status."""
    try:
        sys.exit(run())
    except Failure as failure:
        print(f"{pathlib.Path(sys.argv[0]).name}: error: {failure}", file=sys.stderr)
        sys.exit(failure.status)
    except OSError as error:
        print(f"{pathlib.Path(sys.argv[0]).name}: error: {error.filename or ''}: {error.strerror}; check the path, its "
              "permissions and the space on its disk", file=sys.stderr)
        sys.exit(FAILED)
