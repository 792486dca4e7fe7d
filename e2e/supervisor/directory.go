package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// marker is the file that says "this directory is a supervisor's, and whoever holds its lock is alive". The kernel
// drops the lock with the process, so an unlocked marker is a directory that nobody will remove any more.
const marker = ".supervisor"

// claim makes dir, which must not exist or be empty because it will be removed with all that is in it, and marks it as
// ours until the returned file is closed.
func claim(dir string) (*os.File, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("cannot use %s: it is not empty, and it would be removed at the end; name one that does not exist", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory: %w", err)
	}
	// Locked under another name first: a marker that can be seen is always locked while its owner lives.
	hidden := filepath.Join(dir, marker+".new")
	file, err := os.OpenFile(hidden, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot mark the directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", hidden, err)
	}
	if err := os.Rename(hidden, filepath.Join(dir, marker)); err != nil {
		return nil, fmt.Errorf("cannot mark the directory: %w", err)
	}
	return file, nil
}

// sweep removes the marked directories beside dir whose supervisors were killed outright.
func sweep(dir string) {
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", marker))
	for _, path := range found {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			// The processes of a node died with its supervisor; what is left are control groups and files.
			_ = removeGroups(groupOf(filepath.Dir(path)))
			_ = remove(filepath.Dir(path))
		}
		file.Close()
	}
}

// remove removes dir, again if something was still being written into it.
func remove(dir string) error {
	var err error
	for range 20 {
		if err = os.RemoveAll(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}
