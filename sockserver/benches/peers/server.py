"""CPython's socketserver: a thread for each connection, or one packet after the other."""

import socketserver
import sys
import threading
import time


class Lines(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


class Computing(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        for line in self.rfile:
            if line.startswith(b"c"):
                begun = time.monotonic()
                while time.monotonic() - begun < 0.1:
                    pass
            self.wfile.write(line)


class Bulk(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    answer = b"x" * (64 * 1024)

    def handle(self):
        for _ in self.rfile:
            self.wfile.write(self.answer)


class Packets(socketserver.BaseRequestHandler):
    def handle(self):
        packet, socket = self.request
        socket.sendto(packet, self.client_address)


class ThreadingServer(socketserver.ThreadingTCPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that is done hangs up, which is no news."""


COMPOSITIONS = {
    "one-line": (ThreadingServer, Lines),
    "lines": (ThreadingServer, Lines),
    "computing": (ThreadingServer, Computing),
    "bulk": (ThreadingServer, Bulk),
    "packets": (socketserver.UDPServer, Packets),
}


def stop_when_told(server):
    sys.stdin.read()
    server.shutdown()


server_class, handler_class = COMPOSITIONS[sys.argv[1]]
with server_class(("127.0.0.1", 0), handler_class) as server:
    print(server.server_address[1], flush=True)
    threading.Thread(target=stop_when_told, args=(server,), daemon=True).start()
    server.serve_forever()
print("stopped", flush=True)
