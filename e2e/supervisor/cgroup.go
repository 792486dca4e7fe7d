package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// groupRoot is where Linux has its control groups: one tree (version 2), or a folder with one for each controller.
const groupRoot = "/sys/fs/cgroup"

// neededControllers are those that a kubelet insists on, usedControllers those that it insists on where there are any.
var (
	neededControllers = []string{"cpu", "cpuset", "memory", "pids"}
	usedControllers   = append([]string{"hugetlb", "io"}, neededControllers...)
)

// groupOf is the name of the control group that all pods of the node in dir are below.
func groupOf(dir string) string { return "capf-e2e-" + filepath.Base(dir) }

// unified says whether this machine has version 2 alone.
func unified() bool {
	_, err := os.Stat(filepath.Join(groupRoot, "cgroup.controllers"))
	return err == nil
}

// groupTrees are the folders below which there is a tree of groups.
func groupTrees() []string {
	if unified() {
		return []string{groupRoot}
	}
	var trees []string
	entries, _ := os.ReadDir(groupRoot)
	for _, entry := range entries {
		tree := filepath.Join(groupRoot, entry.Name())
		// A symbolic link is another name of a tree that is in the list anyhow.
		if _, err := os.Stat(filepath.Join(tree, "cgroup.procs")); err == nil && entry.IsDir() {
			trees = append(trees, tree)
		}
	}
	return trees
}

// makeGroups makes a group with that name for a kubelet, which wants it in every tree.
func makeGroups(name string) error {
	if unified() {
		available, err := os.ReadFile(filepath.Join(groupRoot, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("cannot read which controllers there are: %w", err)
		}
		wanted := ""
		for _, controller := range strings.Fields(string(available)) {
			if slices.Contains(usedControllers, controller) {
				wanted += " +" + controller
			}
		}
		if err := os.WriteFile(filepath.Join(groupRoot, "cgroup.subtree_control"), []byte(wanted), 0); err != nil {
			return fmt.Errorf("cannot hand on the controllers%s to new control groups: %w", wanted, err)
		}
	}
	for _, tree := range groupTrees() {
		group := filepath.Join(tree, name)
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("cannot make a control group: %w", err)
		}
		// A new cpuset of version 1 is empty, and then nothing can be put into it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			inherited, err := os.ReadFile(filepath.Join(tree, file))
			if err != nil || unified() {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, file), inherited, 0); err != nil {
				return fmt.Errorf("cannot set up a control group: %w", err)
			}
		}
	}
	return nil
}

// removeGroups removes the groups of that name, with all below them. They are empty as soon as the kernel has noticed
// that the processes are gone.
func removeGroups(name string) error {
	var err error
	for range 100 {
		err = nil
		for _, tree := range groupTrees() {
			err = errors.Join(err, removeGroup(filepath.Join(tree, name)))
		}
		if err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func removeGroup(group string) error {
	entries, err := os.ReadDir(group)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, removeGroup(filepath.Join(group, entry.Name())))
		}
	}
	if err != nil {
		return err
	}
	if err := os.Remove(group); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
