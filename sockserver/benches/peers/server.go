// Go: a goroutine for each connection, buffered both ways, flushed when no further request has been received.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	switch os.Args[1] {
	case "packets":
		packets()
	case "bulk":
		connections(make([]byte, 64*1024))
	default:
		connections(nil)
	}
}

func connections(bulk []byte) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		check(err)
		go answer(connection, bulk)
	}
}

func answer(connection net.Conn, bulk []byte) {
	defer connection.Close()
	reader, writer := bufio.NewReader(connection), bufio.NewWriter(connection)
	for {
		reply, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		if bulk != nil {
			reply = bulk
		}
		writer.Write(reply)
		if reader.Buffered() == 0 && writer.Flush() != nil {
			return
		}
	}
}

func packets() {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	fmt.Println(socket.LocalAddr().(*net.UDPAddr).Port)
	buffer := make([]byte, 64*1024)
	for {
		received, client, err := socket.ReadFromUDPAddrPort(buffer)
		check(err)
		socket.WriteToUDPAddrPort(buffer[:received], client)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
