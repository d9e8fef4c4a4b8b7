"""A server of Python's own: `server.py TRANSPORT CONCURRENCY ADDRESS`. It answers lines in upper case."""

import socketserver
import sys

SERVERS = {
    "tcp": "TCPServer",
    "udp": "UDPServer",
    "unix": "UnixStreamServer",
    "unix_datagram": "UnixDatagramServer",
}
MIXINS = {"sync": object, "threading": socketserver.ThreadingMixIn, "forking": socketserver.ForkingMixIn}


def main(transport, concurrency, address):
    streams = transport in ("tcp", "unix")
    handler = socketserver.StreamRequestHandler if streams else socketserver.DatagramRequestHandler

    class Upper(handler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line.rstrip(b"\r\n").upper() + b"\n")

    class Server(MIXINS[concurrency], getattr(socketserver, SERVERS[transport])):
        request_queue_size = 100

    if not transport.startswith("unix"):
        host, port = address.rsplit(":", 1)
        address = (host, int(port))
    with Server(address, Upper) as server:
        name = server.server_address
        print("listening on", name if isinstance(name, str) else "%s:%d" % name, flush=True)
        server.serve_forever()


main(*sys.argv[1:])
