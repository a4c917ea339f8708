"""`python -m tests.clients.install [NAME …]`: make the clients' environments, those that are missing or outdated.

An environment is made whole or not at all: its stamp is written last. What this machine has no interpreter for is
left out and named; a failed installation is an error."""

from __future__ import annotations

import shutil
import subprocess
import sys

import orjson

from tests.clients.environments import DRIVERS, ENVIRONMENTS, Environment


def main(names: list[str]) -> int:
    wanted = [each for each in ENVIRONMENTS if not names or each.name in names]
    if unknown := set(names) - {each.name for each in wanted}:
        print(
            f"There is no {', '.join(sorted(unknown))}; there are {', '.join(e.name for e in ENVIRONMENTS)}."
        )
        return 2
    failed = [each.name for each in wanted if not install(each)]
    if failed:
        print(f"Not installed: {', '.join(failed)}.")
    return 1 if failed else 0


def install(environment: Environment) -> bool:
    """Make an environment unless it is ready. False if that failed."""
    if environment.ready:
        return True
    interpreter = environment.interpreter()
    if interpreter is None:
        print(f"{environment.name}: left out, {environment.missing()}")
        return True
    print(f"{environment.name}: installing {', '.join(environment.packages)}", flush=True)
    shutil.rmtree(environment.folder, ignore_errors=True)
    environment.folder.mkdir(parents=True)
    make = _venv if environment.kind == "python" else _node_modules
    try:
        make(environment, interpreter)
    except subprocess.CalledProcessError as error:
        print(error.stdout + error.stderr)
        return False
    environment.stamp.write_text(environment.wanted)
    return True


def _venv(environment: Environment, interpreter: str) -> None:
    _run([interpreter, "-m", "venv", str(environment.folder)], environment)
    _run([str(environment.bin / "pip"), "install", "--quiet", *environment.packages], environment)


def _node_modules(environment: Environment, interpreter: str) -> None:
    package = {"name": f"clients-{environment.name}", "private": True, "type": "module"}
    (environment.folder / "package.json").write_bytes(orjson.dumps(package))
    npm = shutil.which("npm") or "npm"
    options = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    _run([npm, "install", *options, *environment.packages], environment)
    environment.drivers.symlink_to(DRIVERS)


def _run(command: list[str], environment: Environment) -> None:
    subprocess.run(command, cwd=environment.folder, capture_output=True, text=True, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
