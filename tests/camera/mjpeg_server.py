"""A camera on the network: Motion JPEG over HTTP, until it is killed.

    python mjpeg_server.py PORT FPS [FREEZE_AFTER]

Every picture is of one grey, its number in steps of 8. After FREEZE_AFTER pictures it keeps the connection and sends
nothing more. It prints a line when it listens.
"""

from __future__ import annotations

import itertools
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

PORT, FPS = int(sys.argv[1]), float(sys.argv[2])
FREEZE_AFTER = int(sys.argv[3]) if len(sys.argv) > 3 else None


class Camera(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in itertools.count():
            if number == FREEZE_AFTER:
                time.sleep(3600)
            picture = np.full((120, 160, 3), number * 8 % 256, np.uint8)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            try:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                self.wfile.write(jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(1 / FPS)

    def log_message(self, *arguments: object) -> None:
        pass


ThreadingHTTPServer.allow_reuse_address = True
server = ThreadingHTTPServer(("127.0.0.1", PORT), Camera)
print("listening", flush=True)
server.serve_forever()
