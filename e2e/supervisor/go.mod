// Keeps the processes that the end-to-end tests start from outliving them. Standard library only: builds in seconds.
module capf.dev/supervisor

go 1.24.0
