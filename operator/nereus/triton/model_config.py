"""Triton's model configuration as text and as a message: parse, merge in layers, write back.

Here because both the operator (which renders fields and checks them before anything is applied) and the sidecar (which
merges them with the `config.pbtxt` that came with the model) must agree on what a field means. The schema is the one
that `tritonclient` ships; its module is loaded by path, because `import tritonclient.grpc` would bring grpc and numpy
into the small sidecar.

The message class is built with explicit presence for every field. In the original (proto3) `max_batch_size: 0` and no
`max_batch_size` are the same message, so a resource could never switch off the batching of a `config.pbtxt`.

No semantic checks (a preferred size above the maximum, …) and no I/O besides finding the schema.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

ModelConfig: TypeAlias = Any
"""A protobuf message `inference.ModelConfig`; the fields are those of Triton's model_config.proto. Enum fields take
their value's name as a string in the constructor: `config.input.add(name="x", data_type="TYPE_FP32")`."""

_UNKNOWN_FIELD = re.compile(r'Message type "(?P<message>[\w.]+)" has no field named "(?P<field>[^"]*)"')
_UNKNOWN_ENUM = re.compile(r'Enum type "(?P<enum>[\w.]+)" has no value named (?P<value>\S+?)\.?$')


class ConfigError(ValueError):
    """A text that is not a model configuration. `line` and `column` count from 1; `reason` has no position in it."""

    def __init__(self, reason: str, *, line: int | None, column: int | None) -> None:
        self.reason = reason
        self.line = line
        self.column = column
        where = f"line {line}, column {column}: " if line is not None and column is not None else ""
        super().__init__(f"{where}{reason}")


class Merged(NamedTuple):
    """The result of `merge`: one configuration, and the paths on which two layers had a different opinion."""

    config: ModelConfig
    conflicts: tuple[str, ...]


def new() -> ModelConfig:
    """An empty model configuration."""
    return _message_class()()


def parse(text: str) -> ModelConfig:
    """A model configuration from its protobuf text form. Raises ConfigError with the position and what is wrong."""
    config = new()
    try:
        text_format.Parse(text, config, descriptor_pool=config.DESCRIPTOR.file.pool)
    except text_format.ParseError as error:
        raise ConfigError(_explain(error, config), line=error.GetLine(), column=error.GetColumn()) from None
    except ValueError as error:  # a number out of range, bytes that are no UTF-8: no position is known
        raise ConfigError(str(error), line=None, column=None) from None
    return config


def merge(*layers: ModelConfig) -> Merged:
    """One configuration out of several, lowest precedence first; the layers stay as they are.

    A field that a higher layer sets replaces the lower one's; a message is merged field by field, a map key by key, a
    repeated field is replaced as a whole, and a choice (dynamic or sequence batching) by the higher layer's choice.
    `conflicts` are paths such as `dynamic_batching.max_queue_delay_microseconds`, sorted, where two layers both set a
    value and the values differ.
    """
    result = new()
    conflicts: set[str] = set()
    for layer in layers:
        _merge_into(result, layer, "", conflicts)
    return Merged(result, tuple(sorted(conflicts)))


def layered(
    *, defaults: ModelConfig, source: ModelConfig, text: ModelConfig, removes: Iterable[str], fields: ModelConfig
) -> Merged:
    """The layers of one model, lowest precedence first, with `removes` (dotted paths) cleared below the fields.

    The defaults stand in for what nobody said, so they conflict with nothing; neither does what was removed on purpose.
    """
    said = merge(source, text)
    conflicts = {path for path in said.conflicts if not path.startswith(tuple(removes))}
    for path in removes:
        _clear(said.config, path)
    whole = merge(said.config, fields)
    return Merged(merge(defaults, whole.config).config, tuple(sorted({*conflicts, *whole.conflicts})))


def to_text(config: ModelConfig) -> str:
    """The protobuf text form: the same configuration gives the same text, fields in the order of the schema."""
    return text_format.MessageToString(config, as_utf8=True)


def _merge_into(target: Any, layer: Any, prefix: str, conflicts: set[str]) -> None:
    for field, value in layer.ListFields():
        path = f"{prefix}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _merge_map(target, field, value, path, conflicts)
        elif field.is_repeated:
            existing = getattr(target, field.name)
            if len(existing) and list(existing) != list(value):
                conflicts.add(path)
            target.ClearField(field.name)
            getattr(target, field.name).MergeFrom(value)
        else:
            _merge_single(target, field, value, path, conflicts)


def _merge_single(target: Any, field: Any, value: Any, path: str, conflicts: set[str]) -> None:
    if field.containing_oneof is not None:
        chosen = target.WhichOneof(field.containing_oneof.name)
        if chosen not in (None, field.name):
            conflicts.add(path)
            target.ClearField(chosen)
    if field.message_type is not None:
        part = getattr(target, field.name)
        part.SetInParent()
        _merge_into(part, value, f"{path}.", conflicts)
        return
    if target.HasField(field.name) and getattr(target, field.name) != value:
        conflicts.add(path)
    setattr(target, field.name, value)


def _merge_map(target: Any, field: Any, value: Any, path: str, conflicts: set[str]) -> None:
    existing = getattr(target, field.name)
    holds_messages = field.message_type.fields_by_name["value"].message_type is not None
    for key in value:
        key_path = f'{path}["{key}"]'
        if holds_messages:
            _merge_into(existing[key], value[key], f"{key_path}.", conflicts)
            continue
        if key in existing and existing[key] != value[key]:
            conflicts.add(key_path)
        existing[key] = value[key]


def _clear(config: Any, path: str) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if not config.HasField(parent):
            return
        config = getattr(config, parent)
    config.ClearField(name)


def _explain(error: text_format.ParseError, config: ModelConfig) -> str:
    reason = re.sub(r"^\d+:\d+ : ", "", str(error))
    if match := _UNKNOWN_FIELD.search(reason):
        message, name = match["message"], match["field"]
        known = config.DESCRIPTOR.file.pool.FindMessageTypeByName(message).fields_by_name
        return f'unknown field "{name}" in {message.rsplit(".", 1)[-1]}{_did_you_mean(name, list(known))}'
    if match := _UNKNOWN_ENUM.search(reason):
        enum, name = match["enum"], match["value"].strip("\"'")
        known = config.DESCRIPTOR.file.pool.FindEnumTypeByName(enum).values_by_name
        choices = ", ".join(known)
        return f'unknown value "{name}" of {enum.removeprefix("inference.")}; known are {choices}'
    return reason


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


_MAKING = threading.Lock()
"""A cache does not keep two threads from making two classes at once, and protobuf merges a message of one into a
message of the other without its fields and without a word (a sidecar prepares several models at the same time)."""


def _message_class() -> Any:
    with _MAKING:
        return _made_once()


@functools.cache
def _made_once() -> Any:
    file = descriptor_pb2.FileDescriptorProto.FromString(_schema_module().DESCRIPTOR.serialized_pb)
    file.syntax = "proto2"  # gives every singular field explicit presence; the text form stays the same
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def _schema_module() -> ModuleType:
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the package tritonclient is not installed: it holds the schema of Triton's configuration")
    for folder in package.submodule_search_locations:
        path = Path(folder) / "grpc" / "model_config_pb2.py"
        spec = importlib.util.spec_from_file_location("nereus_triton_model_config_schema", path)
        if path.is_file() and spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise RuntimeError("tritonclient is installed without grpc/model_config_pb2.py: install tritonclient>=2.73")
