"""Talks to a server that answers lines in upper case, and prints what it says: `client.py TRANSPORT ADDRESS`."""

import os
import socket
import sys
import tempfile

PATIENCE = 20


def talk_over_stream(connect):
    def lines(text, count):
        """The answers to what is sent at once."""
        with connect() as client, client.makefile("rb") as answers:
            client.sendall(text)
            return [answers.readline() for _ in range(count)]

    def everything(text):
        """The answer to what is sent and then nothing more."""
        with connect() as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(4096), b""))

    yield lines(b"hello world\n", 1)
    yield lines(b"one\ntwo\nthree\n", 3)
    yield lines(b"with a carriage return\r\n", 1)
    yield lines(b"\n\n", 2)
    yield lines(b"long " * 10_000 + b"\n", 1)
    yield everything(b"one\nno end")
    yield everything(b"")
    with connect() as client, client.makefile("rb") as answers:
        for number in range(10):
            client.sendall(b"request %d\n" % number)
            yield answers.readline()
    for number in range(10):
        yield lines(b"client %d\n" % number, 1)
    clients = [connect() for _ in range(10)]
    for number, client in enumerate(clients):
        client.sendall(b"one of many, %d\n" % number)
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        with client, client.makefile("rb") as answers:
            yield answers.read()


def talk_in_packets(open_socket):
    with open_socket() as client:
        for packet in (b"hello world\n", b"one\ntwo\n", b"no end", b"carriage return\r\n", b"long " * 1_600):
            client.send(packet)
            yield client.recv(65536)
    for number in range(10):
        with open_socket() as client:
            client.send(b"client %d\n" % number)
            yield client.recv(65536)


def main(transport, address):
    family = socket.AF_UNIX if transport.startswith("unix") else socket.AF_INET
    streams = transport in ("tcp", "unix")
    if family == socket.AF_INET:
        host, port = address.rsplit(":", 1)
        address = (host, int(port))

    with tempfile.TemporaryDirectory() as directory:
        names = (os.path.join(directory, str(number)) for number in range(1_000))

        def connect():
            client = socket.socket(family, socket.SOCK_STREAM if streams else socket.SOCK_DGRAM)
            client.settimeout(PATIENCE)
            if family == socket.AF_UNIX and not streams:
                # To be answered, a client must have a name.
                client.bind(next(names))
            client.connect(address)
            return client

        for answer in (talk_over_stream if streams else talk_in_packets)(connect):
            print(answer)


main(*sys.argv[1:])
