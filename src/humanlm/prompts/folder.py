"""A folder of templates with a version: built in, or a user's own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.loaders import DictLoader
from jinja2.sandbox import ImmutableSandboxedEnvironment

from humanlm.errors import UsageError, unknown_name

META = "meta.yaml"


class TemplateFolder:
    """Jinja templates, and ``meta.yaml`` that states their version. They run in a sandbox: they may come with a model.

    Attributes:
        name: The built-in folder's name, or the user's folder's.
        texts: Every file by name.
        version: As ``meta.yaml`` says.
    """

    def __init__(self, name: str, texts: Mapping[str, str]) -> None:
        self.name, self.texts = name, dict(texts)
        try:
            meta = yaml.safe_load(self.texts[META])
        except yaml.YAMLError as error:
            raise UsageError(f"{name}/{META}: not valid YAML ({' '.join(str(error).split())})") from error
        if not isinstance(meta, dict) or "version" not in meta:
            raise UsageError(f"{name}/{META}: needs the key `version`")
        self.version = str(meta["version"])
        self._environment = ImmutableSandboxedEnvironment(
            loader=DictLoader(self.texts),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
        )

    @classmethod
    def load(cls, folder: Traversable, needed: Sequence[str]) -> "TemplateFolder":
        """Reads a folder.

        Args:
            folder: As :func:`find_folder` gives it.
            needed: Files it must have, besides ``meta.yaml``.

        Raises:
            UsageError: A file is missing or no text, or there is no version.
        """
        try:
            texts = {
                item.name: item.read_text(encoding="utf-8")
                for item in folder.iterdir()
                if item.name.endswith((".j2", ".yaml"))
            }
        except UnicodeDecodeError as error:
            raise UsageError(f"{folder}: a template is not UTF-8 text ({error.reason})") from error
        missing = [name for name in (META, *needed) if name not in texts]
        if missing:
            words = ", ".join((META, *needed))
            raise UsageError(f"{folder}: not a folder of templates, {missing[0]} is missing (needed: {words})")
        return cls(folder.name, texts)

    @cached_property
    def digest(self) -> str:
        """Of all texts; hexadecimal."""
        return hashlib.sha256(json.dumps(sorted(self.texts.items())).encode()).hexdigest()

    def render(self, template: str, **values: Any) -> str:
        """Fills a template in.

        Raises:
            UsageError: It cannot be rendered; says why.
        """
        try:
            return self._environment.get_template(template).render(**values).strip()
        except TemplateError as error:
            raise UsageError(f"templates {self.name!r}: {template} cannot be rendered ({error})") from error


def find_folder(name_or_folder: str | Path, *, package: str, inside: str, kind: str) -> Traversable:
    """The folder of templates that a name or path stands for.

    Args:
        name_or_folder: A built-in folder's name, or a path.
        package: The package that holds the built-in ones.
        inside: The folder of that package in which they lie.
        kind: What is looked for, in the words of the error.

    Raises:
        UsageError: There is none.
    """
    built_in = {item.name: item for item in files(package).joinpath(inside).iterdir() if item.is_dir()}
    folder = built_in.get(str(name_or_folder)) or Path(name_or_folder)
    if not folder.is_dir():
        raise unknown_name(f"{kind} or folder", str(name_or_folder), built_in)
    return folder
