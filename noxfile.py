"""The matrix: the app on many combinations of versions, databases, brokers and worker pools.

`make matrix` runs it; tests/matrix/cells.py lists the combinations.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

from tests.matrix import runner
from tests.matrix.cells import Environment

nox.needs_version = ">=2024"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"

# pyenv's interpreters count even if they are not activated.
_pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
os.environ["PATH"] = os.pathsep.join(
    [os.environ["PATH"], *(str(each) for each in sorted(_pyenv.glob("versions/*/bin")))]
)
# A missing interpreter is an error; downloading one would hide it.
os.environ["UV_PYTHON_DOWNLOADS"] = "never"


@nox.session
@nox.parametrize(
    "python,environment",
    [nox.param(one.python, one, id=str(one)) for one in runner.environments()],
)
def matrix(session: nox.Session, environment: Environment) -> None:
    """Run the cells of one environment."""
    runner.run(session, environment)


@nox.session(venv_backend="none")
def table(session: nox.Session) -> None:
    """Print the results of the cells that ran, and write them into docs/matrix.md if all ran."""
    runner.report(session)
