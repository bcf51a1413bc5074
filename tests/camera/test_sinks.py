from __future__ import annotations

import pytest

from pspnet_edge.camera.sinks import check_view
from pspnet_edge.errors import OptionError, OutputError


def test_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert check_view("auto") == "none"
    assert check_view("web") == "web"
    with pytest.raises(OutputError, match="no display"):
        check_view("window")
    with pytest.raises(OptionError, match="choose one of"):
        check_view("hologram")
    monkeypatch.setenv("DISPLAY", ":0")
    assert check_view("auto") == "window"
