"""The program mdlm, run by a command of this package."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

from mdlm_data.errors import InputError


def mdlm(how: str | None, *words: object, option: str = "--mdlm") -> None:
    """Run it with these arguments; `how`: the command, such as "mpirun -n 4 build/mdlm", which `option` names."""
    command = shlex.split(how) if how else [shutil.which("mdlm") or "build/mdlm"]
    try:
        done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, env=os.environ)
    except OSError as e:
        raise InputError(f"{command[0]} cannot be run ({e.strerror}); name it with {option}") from e
    if done.returncode:
        said = [x for x in (done.stderr + done.stdout).splitlines() if "error" in x] or done.stderr.splitlines()
        raise InputError(f"mdlm {words[0]}: {said[0] if said else f'exit code {done.returncode}'}")
