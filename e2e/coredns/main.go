// The cluster DNS of the end-to-end tests' node: CoreDNS with the few plugins that answer for Services, as one static
// binary. CoreDNS's own main package brings thirty more, with the clients of every cloud, and takes thrice as long to
// build.
package main

import (
	"github.com/coredns/coredns/coremain"

	// In the order of CoreDNS's own list; what a Corefile names must be here.
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() { coremain.Run() }
