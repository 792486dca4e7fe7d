// capf-pod is what runs in the end-to-end tests' own pods, and what puts it, or any other static program, into an image
// without a registry.
//
//	capf-pod pause                       keeps a pod's namespaces, does nothing
//	capf-pod serve ADDRESS               answers HTTP with the host's name, which is the pod's; /client with the
//	                                     address it is asked from
//	capf-pod fetch URL                   prints what a GET answers
//	capf-pod connect ADDRESS [FROM]      succeeds when a TCP connection to it is made within two seconds, from an IP address
//	capf-pod archive FLAGS -- PROGRAM    writes an OCI archive with that program alone in it
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: capf-pod pause
       capf-pod serve ADDRESS
       capf-pod fetch URL
       capf-pod connect ADDRESS [FROM]
       capf-pod archive --output FILE --name REFERENCE [--user UID:GID] [--arg ARG]... -- PROGRAM`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "capf-pod: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no mode\n%s", usage)
	}
	switch mode, rest := args[0], args[1:]; {
	case mode == "pause" && len(rest) == 0:
		pause()
		return nil
	case mode == "serve" && len(rest) == 1:
		return serve(rest[0])
	case mode == "fetch" && len(rest) == 1:
		return fetch(rest[0])
	case mode == "connect" && (len(rest) == 1 || len(rest) == 2):
		return connect(rest[0], rest[1:])
	case mode == "archive":
		return archive(rest)
	}
	return fmt.Errorf("cannot make sense of %q\n%s", args, usage)
}

// pause waits until it is asked to end. As the first process of a pod that shares its process namespace it would also
// have to collect orphans; no pod of ours shares one.
func pause() {
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	<-ended.Done()
}

// serve answers every request until it is asked to end, then finishes those under way.
func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/client" {
				client, _, _ := net.SplitHostPort(r.RemoteAddr)
				fmt.Fprintln(w, client)
				return
			}
			fmt.Fprintln(w, name)
		}),
	}
	// Each request shall meet the choice of kube-proxy anew.
	server.SetKeepAlivesEnabled(false)
	go func() {
		<-ended.Done()
		finish, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(finish)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// fetch prints the body of an answer and fails on any status but 200.
func fetch(url string) error {
	response, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	_, err = io.Copy(os.Stdout, io.LimitReader(response.Body, 1<<20))
	return err
}

// connect says by its error whether something listens there and the way is open.
func connect(address string, from []string) error {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for _, own := range from {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(own)}
	}
	connection, err := dialer.Dial("tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}
