package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are what a caller of `capf-e2e up` may choose.
type options struct {
	dir       string
	assets    string
	etcdFsync bool
	keep      bool
	timeout   time.Duration
	// node says that there is a node as well. The rest is only for that: programs, and the API server's port, which
	// somebody on the host passes on.
	node                 bool
	check                bool
	coredns, pod, netpol string
	apiserverPort        int
	// extra are further flags for a part, by its name in commands.
	extra map[string][]string
}

// up runs a control plane until stdin reaches its end or a signal says so, then removes every trace of it.
// One JSON object a line goes to stdout: first what was started (or an error), then an answer for each command.
func up(args []string) int {
	opts, err := parse("up", args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e up: %v\n%s\n", err, usage)
		return 2
	}
	ctx, cancel := untilSignal()
	defer cancel()
	lock, err := claim(opts.dir)
	if err != nil {
		return fail(err)
	}
	defer lock.Close()
	sweep(opts.dir)
	status := run(ctx, cancel, opts)
	if err := leave(opts); err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e up: cannot clean up: %v\n", err)
		return 1
	}
	return status
}

// untilSignal ends with the first signal that asks this process to end. Called before anything is made: from then on
// such a signal cannot end it without its clean-up.
func untilSignal() (context.Context, func()) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
}

// run runs a control plane until stdin reaches its end or ctx does. Its files stay.
func run(ctx context.Context, cancel func(), opts options) int {
	// Read from the first moment on, so that a caller who dies during the start is noticed too.
	commands := readCommands(os.Stdin, cancel)

	p := &plane{opts: opts}
	err := p.start(ctx)
	status := 0
	switch {
	case ctx.Err() != nil:
	case err != nil:
		status = fail(err)
	default:
		answer(p.describe())
		serve(ctx, p, commands)
	}
	p.killAll()
	return status
}

// leave removes every file, unless they are to be kept.
func leave(opts options) error {
	if !opts.keep {
		return remove(opts.dir)
	}
	// What is kept is the caller's now, not a leftover.
	fmt.Fprintf(os.Stderr, "capf-e2e: kept %s\n", opts.dir)
	return os.Remove(filepath.Join(opts.dir, marker))
}

// parse reads the flags of a mode; the modes other than up run a node.
func parse(mode string, args []string) (options, error) {
	opts := options{extra: map[string][]string{}, node: mode != "up"}
	flags := flag.NewFlagSet(mode, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&opts.dir, "dir", "", "")
	flags.StringVar(&opts.assets, "assets", "", "")
	flags.BoolVar(&opts.etcdFsync, "etcd-fsync", false, "")
	flags.BoolVar(&opts.keep, "keep", false, "")
	flags.DurationVar(&opts.timeout, "timeout", 2*time.Minute, "")
	if opts.node {
		flags.BoolVar(&opts.check, "check", false, "")
		flags.StringVar(&opts.coredns, "coredns", "", "")
		flags.StringVar(&opts.pod, "pod", "", "")
		flags.StringVar(&opts.netpol, "netpol", "", "")
		flags.IntVar(&opts.apiserverPort, "apiserver-port", 0, "")
	}
	flags.Func("extra", "", func(value string) error {
		part, extra, ok := strings.Cut(value, "=")
		if _, known := binaries[part]; !ok || !known {
			return fmt.Errorf("want PART=FLAG with PART one of %s", opts.partNames())
		}
		opts.extra[part] = append(opts.extra[part], extra)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if opts.dir == "" || flags.NArg() > 0 {
		return opts, fmt.Errorf("--dir is needed, and nothing but flags")
	}
	if !opts.check && (opts.assets == "" || opts.node && (opts.coredns == "" || opts.pod == "" || opts.netpol == "")) {
		return opts, fmt.Errorf("--assets is needed, and for a node --coredns, --pod and --netpol")
	}
	for _, path := range []*string{&opts.dir, &opts.assets, &opts.coredns, &opts.pod, &opts.netpol} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return opts, err
		}
	}
	return opts, nil
}

// readCommands hands out the lines of input and calls end when there are no more.
func readCommands(input io.Reader, end func()) <-chan string {
	lines := make(chan string)
	go func() {
		defer end()
		for scanner := bufio.NewScanner(input); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}

// serve obeys commands, one at a time, until it is told to end.
func serve(ctx context.Context, p *plane, commands <-chan string) {
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-commands:
			if err := p.obey(ctx, line); err != nil {
				answer(map[string]any{"ok": false, "error": err.Error()})
			} else {
				answer(map[string]any{"ok": true, "pids": p.pids()})
			}
		}
	}
}

func fail(err error) int {
	answer(map[string]any{"error": err.Error()})
	return 1
}

func answer(value any) {
	// A caller that is gone reads no answers: its end of stdin says so next.
	_ = json.NewEncoder(os.Stdout).Encode(value)
}
