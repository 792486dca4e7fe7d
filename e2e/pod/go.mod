// What the end-to-end tests' own pods run, and what makes their images. Standard library only: builds in seconds.
module capf.dev/pod

go 1.24.0
