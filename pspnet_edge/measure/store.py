"""What a benchmark has finished so far: one small file a unit of work, so that an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..artifact import write_json
from ..errors import OutputError
from ..inputs import is_file

Key = Mapping[str, object]
"""What a result depends on, as JSON values."""


class Store:
    """Results by what they depend on.

    A key holds every option and hash that the result depends on, so that nothing old is ever taken for something else;
    a file that is damaged counts as absent.

    Args:
        folder: where the files are; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: Key) -> Any:
        """The result of a unit, as it was put; None unless it was finished."""
        place = self._place(key)
        try:
            content = json.loads(place.read_text(encoding="utf-8")) if is_file(place) else None
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("key") != key or not isinstance(content.get("value"), dict):
            return None
        return content["value"]

    def put(self, key: Key, value: Mapping[str, object]) -> None:
        """Keep the result of a unit."""
        write_json(self._place(key), {"key": key, "value": value})

    def clear(self) -> None:
        """Forget everything.

        Raises:
            OutputError: the folder cannot be removed.
        """
        try:
            shutil.rmtree(self._folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(f"{self._folder} cannot be removed ({error.strerror}): remove it yourself") from error

    def _place(self, key: Key) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:24]}.json"
