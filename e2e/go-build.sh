# Shell functions that build a Go program of the end-to-end tests into a cache outside the tree. Sourced by the build
# scripts beside the programs. POSIX sh; needs flock(1).

# The caller's cache, not this machine's /tmp: what is built survives a reboot and is shared by all work trees.
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME, the cache of built programs goes below it}/.cache}/capf-operator

say() { echo "$*" >&2; }

die() {
	say "error: $*"
	exit 1
}

# The hash of what decides what the program in folder $1, linked with the flags $2, is. A module without dependencies
# has no go.sum.
source_hash() {
	(
		cd "$1" || exit
		{ uname -m && echo "$2" && cat go.mod ./*.go && if [ -e go.sum ]; then cat go.sum; fi; } | sha256sum | cut -c 1-16
	)
}

# build_once WHAT SOURCE OUTPUT LDFLAGS [PACKAGE]: builds the program WHAT from the folder SOURCE, or from PACKAGE of the
# modules that this folder names, into the file OUTPUT unless it is there already. However many call this at once, one
# builds and the others wait for it.
build_once() {
	if [ -x "$3" ]; then return; fi
	if ! command -v go >/dev/null 2>&1; then
		die "cannot build $1: there is no Go. Install Go 1.26 or newer and have it on PATH (the package is called golang or golang-go), or $no_go_remedy."
	fi
	mkdir -p "$(dirname "$3")" || die "cannot make the cache of built programs"
	exec 9>"$3.lock"
	if ! flock -n 9; then
		say "waiting for another build of $1 to end"
		flock 9
	fi
	if [ ! -x "$3" ]; then go_build "$@"; fi
	exec 9>&-
}

# The build itself, with its progress on stderr.
go_build() (
	say "building $1 (once; kept in $(dirname "$3"))"
	cd "$2" || exit
	# The caller's Go settings must not change what is built.
	export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off GOOS='' GOARCH='' GOEXPERIMENT=''
	# Also fetches the modules, where they are not there yet. What is stale depends on -trimpath.
	stale=$(go list -trimpath -deps -f '{{if .Stale}}stale{{end}}' "${5:-.}") ||
		die "cannot build $1: Go cannot read its modules (see above). Check go version (1.26 or newer), the network and the Go proxy setting (go env GOPROXY), or $no_go_remedy."
	total=$(echo "$stale" | grep -c stale) || true
	: >"$3.log"
	go build -v -buildvcs=false -trimpath -ldflags "-s -w $4" -o "$3.new" "${5:-.}" 2>"$3.log" &
	build=$!
	trap 'kill $build 2>/dev/null; exit 130' INT TERM HUP
	progress "$build" "$3.log" "$total"
	if ! wait "$build"; then
		tail -n 20 "$3.log" >&2
		die "cannot build $1: go build failed (see above)"
	fi
	# Appears whole or not at all.
	mv "$3.new" "$3"
	rm -f "$3.log"
)

# Says how far the build is: rewriting one line on a terminal, elsewhere a line every 15 seconds.
progress() {
	started=$(date +%s)
	next=15
	while kill -0 "$1" 2>/dev/null; do
		elapsed=$(($(date +%s) - started))
		line="  $elapsed s, $(wc -l <"$2") of $3 packages compiled"
		if [ -t 2 ]; then
			printf '\r%s' "$line" >&2
		elif [ "$elapsed" -ge "$next" ]; then
			say "$line"
			next=$((next + 15))
		fi
		sleep 1
	done
	if [ -t 2 ]; then printf '\n' >&2; fi
}
