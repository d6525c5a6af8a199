"""What the table of a launched member takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from bicameral.engines import openai
from bicameral.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0)]


class Options(openai.Options, frozen=True, kw_only=True):
    """`recipe` says how the server is started (recipes.toml), `model` what it loads.

    `served` is the name it serves the model under: by default the same, of a path its last part.
    `chip` is "cuda:0", "cuda:0,1" for several, or "auto": the one that the planner takes of those
    here. It goes by the weights where their files are here; else `network` is the table of their
    config.json, or the path of one or of a GGUF file. `measured` are rows like a workload's
    [[measured]], which count more than forecasts: a CPU is taken only with one, or alone.
    `args` are added to the recipe's command, `command` replaces it and may use {model}, {port} and
    what else recipe.py lists. `env` are variables for the server; `secrets` names those of ours
    that it may have although they look like secrets, as no other of those is passed on. `settings`
    is the server's own settings file, if the recipe wants one.
    `port`: a free one unless given. It has `start_seconds` to be up and `stop_seconds` to end, is
    asked for its health every `health_seconds` and counts as hung after `hung_seconds` without.
    After `deaths` of them in `deaths_seconds` it is not started again; deaths of a chip that has
    gone do not count, as it is waited for.

    `retries` stays 0: a server of ours that drops a request has died, and by the next try its port
    may be somebody else's. A mind asks another member.
    """

    recipe: str
    retries: Annotated[int, Meta(ge=0, le=0)] = 0
    served: str | None = None
    chip: str = ""
    network: dict[str, Any] | str | None = None
    measured: tuple[dict[str, Any], ...] = ()
    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    secrets: tuple[str, ...] = ()
    settings: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    start_seconds: Seconds = 900.0
    stop_seconds: Seconds = 15.0
    health_seconds: Seconds = 5.0
    hung_seconds: Seconds = 60.0
    deaths: Annotated[int, Meta(ge=1)] = 5
    deaths_seconds: Seconds = 3600.0

    @property
    def alias(self) -> str:
        """The name it serves the model under; answers show it, so it is no path."""
        local = self.model.startswith(("/", "./", "../", "~"))
        return self.served or (Path(self.model).name if local else self.model)


def check(name: str, options: Options) -> None:
    """ConfigError for what is the launcher's to choose, and where it cannot work."""
    if os.name != "posix":
        raise ConfigError(f"[models.{name}] engine: servers are launched on Linux and macOS only")
    for key in ("url", "preset", "key_env"):
        if getattr(options, key) is not None:
            raise ConfigError(
                f"[models.{name}] {key}: the launcher chooses it; "
                'for a server that runs already use engine = "openai"'
            )
