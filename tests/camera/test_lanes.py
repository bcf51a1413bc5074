from __future__ import annotations

import threading
import time

from pspnet_edge.camera.lanes import Lanes


def test_a_live_lane_keeps_the_newest_and_counts_the_rest() -> None:
    lanes: Lanes[int] = Lanes([True], 2)
    for number in range(5):
        assert lanes.put(0, number)
    assert lanes.take(1) == [4]
    assert lanes.dropped == [4]


def test_another_lane_waits_for_room() -> None:
    lanes: Lanes[int] = Lanes([False], 2)
    thread = threading.Thread(target=lambda: [lanes.put(0, number) for number in range(5)])
    thread.start()
    assert [lanes.take(1) for _ in range(5)] == [[number] for number in range(5)]
    thread.join()
    assert lanes.dropped == [0]


def test_what_waits_is_taken_after_the_end_and_then_nothing() -> None:
    lanes: Lanes[int] = Lanes([False, True], 2)
    lanes.put(0, 1)
    lanes.put(1, 2)
    lanes.finish(0)
    lanes.finish(1)
    assert lanes.take(5) == [1, 2]
    assert lanes.take(5) is None


def test_a_batch_waits_for_files_and_not_for_cameras() -> None:
    files: Lanes[int] = Lanes([False, False], 2)
    files.put(0, 1)
    assert files.take(2, timeout_s=0.05) == []
    files.put(1, 2)
    assert files.take(2) == [1, 2]
    cameras: Lanes[int] = Lanes([True, True], 2)
    cameras.put(1, 5)
    assert cameras.take(2) == [5]


def test_lanes_take_turns() -> None:
    lanes: Lanes[str] = Lanes([False, False], 4)
    for lane, name in ((0, "a"), (0, "b"), (0, "c"), (1, "x")):
        lanes.put(lane, name)
    assert [lanes.take(1) for _ in range(4)] == [["a"], ["x"], ["b"], ["c"]]


def test_closing_wakes_both_sides() -> None:
    lanes: Lanes[int] = Lanes([False], 1)
    lanes.put(0, 1)
    answers: list[object] = []
    putting = threading.Thread(target=lambda: answers.append(lanes.put(0, 2)))
    putting.start()
    time.sleep(0.05)
    lanes.close()
    putting.join(1)
    assert answers == [False]
    assert lanes.take(1) is None
