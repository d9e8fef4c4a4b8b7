"""Clients that send without a line end and wait for the answer, like those in Python's documentation of `socketserver`:
`recv_client.py HOST PORT COUNT MESSAGE…`. A `#` in a message becomes the number of the client.

COUNT is `3-at-once` for three clients at the same time, `3-in-turn` for three clients one after the other. Each answer is
printed after the address of the client that received it.
"""

import socket
import sys

PATIENCE = 20


def connect(address):
    return socket.create_connection(address, timeout=PATIENCE)


def send(client, number, message):
    client.sendall(message.replace("#", str(number)).encode())


def receive(client):
    print("%s:%d" % client.getsockname(), str(client.recv(1024), "utf-8").rstrip("\n"))


def at_once(address, count, messages):
    clients = [connect(address) for _ in range(count)]
    for message in messages:
        for number, client in enumerate(clients):
            send(client, number, message)
        for client in clients:
            receive(client)


def in_turn(address, count, messages):
    for number in range(count):
        with connect(address) as client:
            for message in messages:
                send(client, number, message)
                receive(client)


def main(host, port, count, *messages):
    count, way = count.split("-", 1)
    {"at-once": at_once, "in-turn": in_turn}[way]((host, port), int(count), messages)


main(*sys.argv[1:])
