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
	// extra are further flags for a part, by its name in commands.
	extra map[string][]string
}

// up runs a control plane until stdin reaches its end or a signal says so, then removes every trace of it.
// One JSON object a line goes to stdout: first what was started (or an error), then an answer for each command.
func up(args []string) int {
	opts, err := parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e up: %v\n%s\n", err, usage)
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer cancel()
	// Read from the first moment on, so that a caller who dies during the start is noticed too.
	commands := readCommands(os.Stdin, cancel)

	lock, err := claim(opts.dir)
	if err != nil {
		return fail(err)
	}
	defer lock.Close()
	sweep(opts.dir)

	p := &plane{opts: opts}
	err = p.start(ctx)
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
	if opts.keep {
		// What is kept is the caller's now, not a leftover.
		err = os.Remove(filepath.Join(opts.dir, marker))
		fmt.Fprintf(os.Stderr, "capf-e2e up: kept %s\n", opts.dir)
	} else {
		err = remove(opts.dir)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "capf-e2e up: cannot clean up: %v\n", err)
		return 1
	}
	return status
}

func parse(args []string) (options, error) {
	opts := options{extra: map[string][]string{}}
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&opts.dir, "dir", "", "")
	flags.StringVar(&opts.assets, "assets", "", "")
	flags.BoolVar(&opts.etcdFsync, "etcd-fsync", false, "")
	flags.BoolVar(&opts.keep, "keep", false, "")
	flags.DurationVar(&opts.timeout, "timeout", 2*time.Minute, "")
	flags.Func("extra", "", func(value string) error {
		part, extra, ok := strings.Cut(value, "=")
		if _, known := binaries[part]; !ok || !known {
			return fmt.Errorf("want PART=FLAG with PART one of %s", partNames())
		}
		opts.extra[part] = append(opts.extra[part], extra)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if opts.dir == "" || opts.assets == "" || flags.NArg() > 0 {
		return opts, fmt.Errorf("--dir and --assets are needed, and nothing but flags")
	}
	var err error
	if opts.dir, err = filepath.Abs(opts.dir); err != nil {
		return opts, err
	}
	opts.assets, err = filepath.Abs(opts.assets)
	return opts, err
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
