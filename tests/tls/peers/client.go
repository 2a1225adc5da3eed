// A client of Go's crypto/tls: `go run client.go PORT CERTS`. What it says is echoed; the server
// counts on.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
)

const lots = 100 << 20

var port, certs = os.Args[1], os.Args[2]

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func demand(holds bool, what ...any) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

// One version, one name, a certificate of its own, and a place for sessions.
func settings(version uint16) *tls.Config {
	authority, err := os.ReadFile(certs + "/ca.pem")
	check(err)
	roots := x509.NewCertPool()
	demand(roots.AppendCertsFromPEM(authority), "no certificate in ca.pem")
	own, err := tls.LoadX509KeyPair(certs+"/client.pem", certs+"/client.key")
	check(err)
	return &tls.Config{
		MinVersion: version, MaxVersion: version, ServerName: "b.example", RootCAs: roots,
		Certificates: []tls.Certificate{own}, NextProtos: []string{"echo"},
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}
}

func dial(config *tls.Config) (*tls.Conn, *net.TCPConn) {
	plain, err := net.Dial("tcp", "127.0.0.1:"+port)
	check(err)
	stream := tls.Client(plain, config)
	check(stream.Handshake())
	chosen := stream.ConnectionState().NegotiatedProtocol
	demand(chosen == "echo", "the protocol is ", chosen)
	return stream, plain.(*net.TCPConn)
}

func fullAndResumed(version uint16) {
	config := settings(version)
	for _, resumes := range []bool{false, true} {
		stream, _ := dial(config)
		_, err := stream.Write([]byte("one"))
		check(err)
		answer := make([]byte, 3)
		_, err = io.ReadFull(stream, answer)
		check(err)
		demand(string(answer) == "one", "the answer is ", answer)
		demand(stream.ConnectionState().DidResume == resumes, "resumed should be ", resumes)
		check(stream.Close())
	}
}

// Writes and reads at once; the server ends it behind the last byte.
func lotsBothWays(version uint16) {
	stream, _ := dial(settings(version))
	block := make([]byte, 1<<20)
	rand.Read(block)
	sent, seen := sha256.New(), sha256.New()
	go func() {
		for left := lots; left > 0; left -= len(block) {
			sent.Write(block)
			_, err := stream.Write(block)
			check(err)
		}
	}()
	count, err := io.Copy(seen, stream)
	check(err) // an end without close_notify would be one
	demand(count == lots && bytes.Equal(seen.Sum(nil), sent.Sum(nil)), count, " bytes came back")
	stream.Close()
}

// All is said, and its end, before anything is read.
func halfClosed(version uint16) {
	stream, plain := dial(settings(version))
	data := make([]byte, 2<<20)
	rand.Read(data)
	_, err := stream.Write(data)
	check(err)
	check(stream.CloseWrite())
	check(plain.CloseWrite())
	answer, err := io.ReadAll(stream)
	check(err)
	demand(bytes.Equal(answer, data), len(answer), " bytes came back")
	stream.Close()
}

func wrongName() {
	config := settings(tls.VersionTLS13)
	config.ServerName = "wrong.example"
	plain, err := net.Dial("tcp", "127.0.0.1:"+port)
	check(err)
	demand(tls.Client(plain, config).Handshake() != nil, "a certificate of another name was taken")
	plain.Close()
}

func main() {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		fullAndResumed(version)
		lotsBothWays(version)
		halfClosed(version)
	}
	wrongName()
}
