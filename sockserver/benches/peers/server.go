// Go: a goroutine for each connection, buffered both ways, flushed when no further request has been received.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"time"
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
		connections(func(line []byte) []byte { return bulk })
	case "computing":
		connections(computed)
	default:
		connections(func(line []byte) []byte { return line })
	}
}

var bulk = make([]byte, 64*1024)

// Keeps its thread busy for 100 ms, if the line says so.
func computed(line []byte) []byte {
	if line[0] == 'c' {
		for begun := time.Now(); time.Since(begun) < 100*time.Millisecond; {
		}
	}
	if line[0] == 'b' {
		time.Sleep(100 * time.Millisecond)
	}
	return line
}

func connections(reply func(line []byte) []byte) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		check(err)
		go answer(connection, reply)
	}
}

func answer(connection net.Conn, reply func(line []byte) []byte) {
	defer connection.Close()
	reader, writer := bufio.NewReader(connection), bufio.NewWriter(connection)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		writer.Write(reply(line))
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
