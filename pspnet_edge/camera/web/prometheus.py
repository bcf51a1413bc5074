"""The figures of a run in Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..feed import SourceSummary
from ..loop import RunSummary
from .channel import AGE_BUCKETS_S, Channel

_Labels = Mapping[str, object]
_Sample = tuple[str, _Labels, float]


def exposition(summary: RunSummary, channels: Mapping[int, Channel], viewers: int) -> str:
    """Every figure in base units: seconds, counts, ratios.

    Args:
        summary: of ``Loop.summary``; what is NaN, because not known yet, is left out.
        channels: by camera.
        viewers: browsers that watch.
    """
    families = [
        _family("frames_total", "counter", "Frames that came out of the loop.", [("", {}, summary.frames)]),
        _family("dropped_frames_total", "counter", "Frames captured and not segmented.", [("", {}, summary.dropped)]),
        _family("frames_per_second", "gauge", "Rate over the whole run.", [("", {}, summary.fps)]),
        _quantiles("latency_seconds", "Compute: frame taken by inference to mask, last 10 000.", summary.latency_ms),
        _stages(summary.stages_ms),
        _sources(summary.sources),
        _cameras(channels),
        _ages(channels),
        _family("viewers", "gauge", "Browsers that watch.", [("", {}, viewers)]),
    ]
    return "".join(families)


def _family(name: str, kind: str, text: str, samples: Iterable[_Sample]) -> str:
    """An empty string when there is no sample: a family without samples is left out."""
    lines = [f"pspnet_edge_{name}{suffix}{_labels(labels)} {value:.9g}\n" for suffix, labels, value in samples]
    return f"# HELP pspnet_edge_{name} {text}\n# TYPE pspnet_edge_{name} {kind}\n{''.join(lines)}" if lines else ""


def _labels(labels: _Labels) -> str:
    pairs = ",".join(f'{key}="{_escaped(str(value))}"' for key, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _quantiles(name: str, text: str, percentiles: Mapping[str, float]) -> str:
    samples = [
        ("", {"quantile": f"{int(share[1:]) / 100:g}"}, value / 1000)
        for share, value in percentiles.items()
        if math.isfinite(value)
    ]
    return _family(name, "summary", text, samples)


def _stages(stages: Mapping[str, float]) -> str:
    samples = [("", {"stage": stage}, value / 1000) for stage, value in stages.items() if math.isfinite(value)]
    return _family("stage_seconds", "gauge", "Median time of each stage, last 10 000 frames.", samples)


def _sources(sources: Sequence[SourceSummary]) -> str:
    named = [({"camera": camera, "source": source.name}, source) for camera, source in enumerate(sources)]
    frames: list[_Sample] = [("", labels, source.frames) for labels, source in named]
    dropped: list[_Sample] = [("", labels, source.dropped) for labels, source in named]
    reopened: list[_Sample] = [("", labels, source.reopened) for labels, source in named]
    return (
        _family("captured_frames_total", "counter", "Frames read from each source.", frames)
        + _family("source_dropped_frames_total", "counter", "Of those, not segmented.", dropped)
        + _family("source_reopened_total", "counter", "Times a lost source was got back.", reopened)
    )


def _cameras(channels: Mapping[int, Channel]) -> str:
    numbered = sorted(channels.items())
    ages = [("", {"camera": camera}, age) for camera, channel in numbered if (age := channel.age_s()) is not None]
    fresh = [("", {"camera": camera}, float(not channel.stale())) for camera, channel in numbered]
    return _family("newest_frame_age_seconds", "gauge", "How old the newest shown frame is now.", ages) + _family(
        "fresh", "gauge", "1 while frames come, 0 when the picture is stale.", fresh
    )


def _ages(channels: Mapping[int, Channel]) -> str:
    """Age at output, capture to sink, as a histogram a camera."""
    samples: list[_Sample] = []
    for camera, channel in sorted(channels.items()):
        below = 0
        for bound, count in zip((*(f"{bound:g}" for bound in AGE_BUCKETS_S), "+Inf"), list(channel.age_counts)):
            below += count
            samples.append(("_bucket", {"camera": camera, "le": bound}, below))
        samples += [("_sum", {"camera": camera}, channel.age_sum_s), ("_count", {"camera": camera}, below)]
    return _family("frame_age_seconds", "histogram", "From capture to output.", samples)
