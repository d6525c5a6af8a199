"""From a member's options and its recipe to the command, environment and files of a start."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bicameral.engines.launch.child import Order, log_path
from bicameral.engines.launch.listening import HOST
from bicameral.engines.launch.options import Options
from bicameral.engines.launch.recipe import Recipe, Settings
from bicameral.errors import ConfigError

_CHIP = re.compile(r"([a-z]+)(?::([0-9]+(?:,[0-9]+)*))?")
_SECRET = re.compile(
    r"(^|_)(API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASS|CREDENTIALS?)($|_)", re.I
)
_URL_SECRET = re.compile(r"://[^/@\s]*:[^/@\s]*@")


class Orders:
    """Writes the order of each start of one member; ConfigError if it cannot be started at all."""

    def __init__(self, name: str, options: Options, recipe: Recipe, key: str) -> None:
        self._name = name
        self._options = options
        self._recipe = recipe
        self._key = key
        self._kind, self._numbers = _chip(name, options.chip, recipe)
        _check_env(name, options)
        self.log = log_path(name)

    def order(self, port: int, folder: Path) -> Order:
        """The order of a start on `port`; what the server has to read is put in `folder`."""
        values = self._values(port)
        env = self._env(values)
        if self._recipe.file is not None:
            path = self._write(self._recipe.file, values, folder)
            values["file"] = str(path)
            if self._recipe.file.variable:
                env[self._recipe.file.variable] = str(path)
        return Order(
            command=self._command(self._options.command or self._recipe.command, values, env),
            env=env,
            log=self.log,
            folder=folder,
            mask=self._key,
            grace=self._options.stop_seconds,
            cwd=str(Path.cwd()),
        )

    def version(self) -> tuple[tuple[str, ...], dict[str, str]] | None:
        """The command that prints the version and its environment; None if there is none."""
        values = self._values(0)
        if not self._recipe.version or self._options.command:
            return None
        env = self._env(values)
        return self._command(self._recipe.version, values, env), env

    def _values(self, port: int) -> dict[str, str]:
        return {
            "model": os.path.expanduser(self._options.model),
            "served": self._options.alias,
            "host": HOST,
            "port": str(port),
            "key": self._key,
            "chips": self._numbers or "0",
            "count": str(len((self._numbers or "0").split(","))),
            "python": sys.executable,
        }

    def _command(
        self, template: Sequence[str], values: Mapping[str, str], env: Mapping[str, str]
    ) -> tuple[str, ...]:
        words: list[str] = []
        for word in template:
            words += self._options.args if word == "{args}" else [fill(word, values)]
        found = _find(words[0], env)
        if found is None:
            raise ConfigError(
                f"[models.{self._name}] recipe: there is no '{words[0]}' here: install it "
                f"({self._recipe.install}), or give command"
            )
        return (found, *words[1:])

    def _env(self, values: Mapping[str, str]) -> dict[str, str]:
        """Ours without its secrets, then the recipe's, the chip's, the member's own, the key."""
        kept = {k: v for k, v in os.environ.items() if not _secret(k, v)}
        kept |= {name: os.environ[name] for name in self._options.secrets}
        kept |= {name: fill(value, values) for name, value in self._recipe.env.items()}
        if variable := self._recipe.chips.get(self._kind, ""):
            kept[variable] = self._numbers or kept.get(variable, "")
            if not kept[variable]:
                del kept[variable]
        kept |= self._options.env
        if self._recipe.key:
            kept[self._recipe.key] = self._key
        return kept

    def _write(self, file: Settings, values: Mapping[str, str], folder: Path) -> Path:
        text = fill(file.text, values) if file.text else self._patched(file, values)
        path = folder / ("settings.json" if file.json else "settings.yaml")
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path

    def _patched(self, file: Settings, values: Mapping[str, str]) -> str:
        """The member's settings file with what the launcher decides put in."""
        where = f"[models.{self._name}] settings:"
        if self._options.settings is None:
            raise ConfigError(f"{where} is missing; name the server's own settings file (JSON)")
        try:
            given = Path(self._options.settings).expanduser().read_text(encoding="utf-8")
            tree = json.loads(given)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where} cannot be read ({error})") from error
        quoted = {name: json.dumps(value)[1:-1] for name, value in values.items()}
        for pointer, value in file.json.items():
            try:
                _put(tree, pointer, json.loads(fill(value, quoted)))
            except (LookupError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"{where} has no place for {pointer}: is it the right file?"
                ) from error
        return json.dumps(tree, indent=2)


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with {name} replaced; braces around anything else, such as JSON, stay."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)


def _put(tree: Any, pointer: str, value: Any) -> None:
    """Set what a JSON pointer (RFC 6901) names; all but its last step must be there."""
    *path, last = pointer.removeprefix("/").split("/")
    for step in path:
        tree = tree[int(step) if isinstance(tree, list) else step]
    tree[int(last) if isinstance(tree, list) else last] = value


def _chip(name: str, chip: str, recipe: Recipe) -> tuple[str, str]:
    """The kind and the numbers of 'cuda:0,1'; both empty if none is chosen."""
    if not chip:
        return "", ""
    found = _CHIP.fullmatch(chip)
    if found is None or found[1] not in recipe.chips:
        known = " or ".join(f'"{kind}:0"' if kind != "cpu" else '"cpu"' for kind in recipe.chips)
        raise ConfigError(f"[models.{name}] chip: '{chip}' is not for this recipe; write {known}")
    return found[1], found[2] or ""


def _check_env(name: str, options: Options) -> None:
    for variable, value in options.env.items():
        if _secret(variable, value):
            raise ConfigError(
                f"[models.{name}] env: keep secrets such as {variable} out of the file; set it in "
                f'the environment and write secrets = ["{variable}"]'
            )
    for variable in options.secrets:
        if variable not in os.environ:
            raise ConfigError(
                f"[models.{name}] secrets: the environment variable {variable} is not set"
            )


def _secret(name: str, value: str) -> bool:
    return bool(_SECRET.search(name) or _URL_SECRET.search(value))


def _find(word: str, env: Mapping[str, str]) -> str | None:
    """The program on the path, or beside our own interpreter, whose folder may not be on it."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(word, path=os.pathsep.join([env.get("PATH", os.defpath), beside]))
