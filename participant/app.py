"""The Flower ClientApp: what a member does when the coordinator asks.

An instruction picks one of these actions and carries data. There is no action that runs code, and
none that answers with a count, a metric or a record of this member.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import shared.fleet.environment  # noqa: F401 - before flwr: no telemetry, no update check

# isort: split
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from participant.node.runtime import NodeRuntime, runtime_of
from shared.errors import ConfigError
from shared.fleet.exchange import (
    ADVERTISE,
    COMMIT_TO_DRAW,
    CONFIRM,
    CONSENT,
    ENDED,
    MASKED,
    RELEASE,
    REVEAL_FOR_DRAW,
    SHARE,
    UNMASK,
    Answer,
    Instruction,
)

Step = Callable[[NodeRuntime, Instruction], Answer]

STEPS: dict[str, Step] = {
    CONSENT: NodeRuntime.consent,
    COMMIT_TO_DRAW: NodeRuntime.commit_to_draw,
    REVEAL_FOR_DRAW: NodeRuntime.reveal_for_draw,
    ADVERTISE: NodeRuntime.advertise,
    SHARE: NodeRuntime.step,
    CONFIRM: NodeRuntime.step,
    MASKED: NodeRuntime.masked,
    UNMASK: NodeRuntime.step,
    RELEASE: NodeRuntime.step,
    ENDED: NodeRuntime.ended,
}


def state_dir_of(context: Context) -> Path:
    """Return the state folder of the node that Flower runs this in.

    ``up`` names it in the node config. A simulation names a folder of folders in the run config
    (``state-root``), of which the node's partition picks one.

    Raises:
        ConfigError: neither is there.
    """
    own = context.node_config.get("state-dir")
    if isinstance(own, str):
        return Path(own)
    root, part = context.run_config.get("state-root"), context.node_config.get("partition-id")
    if isinstance(root, str) and isinstance(part, int):
        folders = sorted(path for path in Path(root).iterdir() if (path / "node.toml").exists())
        if part < len(folders):
            return folders[part]
    raise ConfigError(
        "the node's state folder is not configured",
        hint="a SuperNode needs --node-config 'state-dir=\"DIR\"'",
    )


def make_app(runtime: Callable[[Path], NodeRuntime] = runtime_of) -> ClientApp:
    """Return the application on top of ``runtime``; benchmarks bring one that does not train."""
    made = ClientApp()

    def handler(step: Step) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            node = runtime(state_dir_of(context))
            instruction = Instruction.read(message)
            answer = node.answer(lambda item: step(node, item), instruction)
            return Message(answer.content(), reply_to=message)

        return handle

    for name, step in STEPS.items():
        category, action = name.split(".")
        register = made.train if category == "train" else made.query
        register(action)(handler(step))
    return made


app = make_app()
