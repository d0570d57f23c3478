# SPDX-License-Identifier: Apache-2.0
"""A TCP relay with a long way: what comes in goes out a fixed time later. No kernel support needed."""
import collections
import socket
import threading
import time


class _Way:
    """One direction. Bytes on the way are limited; beyond that the sender is not read."""

    def __init__(self, source, sink, seconds, limit):
        self.source, self.sink, self.seconds, self.limit = source, sink, seconds, limit
        self.queue, self.held, self.most = collections.deque(), 0, 0
        self.changed = threading.Condition()
        for run in (self._read, self._write):
            threading.Thread(target=run, daemon=True).start()

    def _put(self, data):
        with self.changed:
            self.changed.wait_for(lambda: self.held < self.limit)
            self.queue.append((time.monotonic() + self.seconds, data))
            self.held += len(data)
            self.most = max(self.most, self.held)
            self.changed.notify_all()

    def _read(self):
        try:
            while data := self.source.recv(1 << 18):
                self._put(data)
        except OSError:
            pass
        self._put(b"")

    def _take(self):
        with self.changed:
            self.changed.wait_for(lambda: self.queue)
            due, data = self.queue[0]
            while (left := due - time.monotonic()) > 0:
                self.changed.wait(left)
            self.queue.popleft()
        return data

    def _write(self):
        try:
            while data := self._take():
                self.sink.sendall(data)
                with self.changed:
                    self.held -= len(data)
                    self.changed.notify_all()
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            # Nobody takes more: the other end shall know, and what waits is let go.
            self.limit = float("inf")
            with self.changed:
                self.changed.notify_all()
            self.source.close()


class Relay:
    """To 127.0.0.1:target; up and down are the seconds from the client and to it."""

    def __init__(self, target, up, down, limit=64 << 20):
        self.target, self.delays, self.limit = target, (up, down), limit
        self.up, self.down, self.sockets = [], [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.sockets += [near, far]
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.up.append(_Way(near, far, self.delays[0], self.limit))
            self.down.append(_Way(far, near, self.delays[1], self.limit))

    def most(self, ways):
        """The most bytes that were on the way at once."""
        return max(w.most for w in ways)

    def close(self):
        for s in [self.listener, *self.sockets]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
