package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// setns(2) by its number: the syscall package has none of the newer calls.
var setns = map[string]uintptr{"amd64": 308, "arm64": 268}[runtime.GOARCH]

// forward takes a port on the host's loopback, says which, and connects whoever connects to it with an address in
// another network, until it is killed.
func forward(args []string) int {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	path := flags.String("network", "", "the network namespace, a `file`")
	to := flags.String("to", "", "where to connect in it, `address:port`")
	_ = flags.Parse(args)
	network, err := os.Open(*path)
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e forward: %v\n", err)
		return 1
	}
	listener, err := listen()
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e forward: %v\n", err)
		return 1
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	passOn(listener, network, *to)
	return 1
}

// passOn connects whoever connects to the listener with an address in another network, until the listener is closed.
func passOn(listener net.Listener, network *os.File, address string) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer near.Close()
			far, err := dialIn(network, address)
			if err != nil {
				return
			}
			defer far.Close()
			join(near.(*net.TCPConn), far.(*net.TCPConn))
		}()
	}
}

// join copies both ways; the end of one direction is passed on as such.
func join(a, b *net.TCPConn) {
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		both.Add(1)
		go func() {
			defer both.Done()
			if _, err := io.Copy(way[1], way[0]); err != nil {
				// A broken connection is broken for both.
				way[0].Close()
				way[1].Close()
				return
			}
			_ = way[1].CloseWrite()
		}()
	}
	both.Wait()
}

// dialIn makes a connection in another network. A socket belongs to the network its thread was in, so this takes a
// thread, moves it there, and lets it end.
func dialIn(network *os.File, address string) (net.Conn, error) {
	type result struct {
		connection net.Conn
		err        error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the runtime ends a thread whose goroutine ends locked, and it is of no other use.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(setns, network.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
			done <- result{err: fmt.Errorf("cannot enter the node's network: %w", errno)}
			return
		}
		// One numeric address: the socket is made on this thread.
		connection, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp4", address)
		done <- result{connection, err}
	}()
	r := <-done
	return r.connection, r.err
}
