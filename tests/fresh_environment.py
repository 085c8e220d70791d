"""A virtual environment of a test's own, in which the project is installed from its source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LEAVE = ("PYTHONPATH", "DIFFKIT_DISABLE")


class FreshEnvironment:
    """Made in a folder, which is also where its programs run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "env"], cwd=folder, check=True)
        self._variables = {k: v for k, v in os.environ.items() if k not in _LEAVE}

    def __call__(
        self, program: str, *arguments: str, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run one of its programs, and see that it exits with this code."""
        done = subprocess.run(
            [str(self.folder / "env" / "bin" / program), *arguments],
            cwd=self.folder,
            env=self._variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def install(self, *what: str | Path) -> None:
        """Install with the project's constraints."""
        # Compiling what is never imported takes longer than installing it.
        pinned = ("-q", "--no-compile", "-c", str(ROOT / "constraints.txt"))
        self("pip", "install", *pinned, *map(str, what))
