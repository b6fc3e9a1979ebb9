"""The configuration of one model: what came with it, what the user wrote, what the resource's fields say, merged.

Pure but for reading one file and the sizes of others. Precedence, lowest first: defaults, config.pbtxt of the source,
configText, fields; what the plan removes is taken out below the fields; the name is the plan's, always.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from nereus.api.protocol import ModelPlan
from nereus.sidecar.layout import Layout
from nereus.sidecar.state import Publication
from nereus.triton import model_config
from nereus.triton.model_config import ConfigError, ModelConfig


class InvalidConfigError(Exception):
    """A model that cannot be configured; the message names the layer, the position and what is wrong."""


def publication(model: ModelPlan, layout: Layout, *, identity: str, source: str, empty: Path) -> Publication:
    """The model made ready for the repository. `identity` names the content of the source; `empty` is an empty
    directory, for the version of a model that has no files. Raises InvalidConfigError."""
    merged = model_config.layered(
        defaults=_layer("the defaults", model.defaults_text),
        source=_layer("config.pbtxt of the source", _text(layout.config)),
        text=_layer("configText", model.config_text),
        removes=model.removes,
        fields=_layer("the fields of the resource", model.fields_text),
    )
    config, entries = merged.config, dict(layout.entries)
    config.name = model.name
    if not layout.versions:
        if config.WhichOneof("scheduling_choice") != "ensemble_scheduling":
            raise InvalidConfigError("the source holds a config.pbtxt and no model file; only an ensemble has none")
        entries["1"] = empty
    text = model_config.to_text(config)
    state = hashlib.sha256(f"{identity}\0{text}".encode())
    for name, path in sorted(entries.items()):
        state.update(f"\0{name}\0{path}".encode(errors="replace"))
    conflicts = tuple(path for path in merged.conflicts if path != "name")
    return Publication(
        digest=state.hexdigest()[:16],
        config_text=text,
        entries=entries,
        source=source,
        conflicts=conflicts,
        version_bytes=_size(entries[str(max(layout.versions))]) if layout.versions else None,
    )


def _size(folder: Path) -> int | None:
    """Bytes of the files in a version; None when they cannot be counted, which stops nothing."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return None


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise InvalidConfigError("config.pbtxt of the source is not text (UTF-8)") from None
    except OSError as error:
        raise InvalidConfigError(f"config.pbtxt of the source cannot be read: {error.strerror}") from None


def _layer(title: str, text: str) -> ModelConfig:
    try:
        return model_config.parse(text)
    except ConfigError as error:
        raise InvalidConfigError(f"{title}: {error}") from None
