// capf-e2e keeps what the end-to-end tests start from outliving them, however they end.
//
//	capf-e2e up --dir DIR --assets DIR     a whole control plane, until stdin reaches its end
//	capf-e2e node ...                      the same and a node that runs pods, until stdin reaches its end
//	capf-e2e guard -- CMD ARGS...          one program, until stdin reaches its end
//	capf-e2e forward --network FILE --to ADDRESS:PORT     a port of loopback for one in another network
//
// The first three hold on to a pipe whose other end only the test process has. The kernel closes that end when the test process
// is gone, also when it was killed outright and could clean up nothing, and that is the signal to clean up here.
// Should capf-e2e itself be killed, the kernel kills its children (see spawn.go).
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: capf-e2e up --dir DIR --assets DIR [--etcd-fsync] [--keep] [--timeout 2m] [--extra PART=FLAG]...
       capf-e2e node --dir DIR --assets DIR --coredns FILE --pod FILE --netpol FILE [the flags of up]
       capf-e2e node --check --dir DIR
       capf-e2e forward --network FILE --to ADDRESS:PORT
       capf-e2e guard [--pid-file FILE] [--grace 20s] -- CMD ARGS...`

func main() {
	// A reader that is gone must not kill this process before it has cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	switch mode, args := os.Args[1], os.Args[2:]; mode {
	case "up":
		os.Exit(up(args))
	case "node":
		os.Exit(node(args))
	case "forward":
		os.Exit(forward(args))
	case insideMode:
		os.Exit(inside(args))
	case secondMode:
		os.Exit(second(args))
	case probeMode:
		os.Exit(probe(args))
	case "guard":
		os.Exit(guard(args))
	default:
		fmt.Fprintf(os.Stderr, "capf-e2e: no mode %q\n%s\n", mode, usage)
		os.Exit(2)
	}
}
