// What enforces NetworkPolicies on the end-to-end tests' node: kube-router's controller of them and nothing else of
// kube-router, as one static binary. The whole of it brings a BGP speaker and clients of container runtimes and clouds,
// and takes thrice as long to build.
//
//	capf-netpol --kubeconfig=FILE --node=NAME --service-range=CIDR --listen=ADDRESS
//
// Answers every request at ADDRESS once the policies that there were at its start are enforced. Needs iptables and ipset,
// and puts its rules before those of kube-proxy.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "capf-netpol: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "`file` that says where the API server is")
	node := flag.String("node", "", "`name` of the node")
	services := flag.String("service-range", "", "`range` of the addresses of Services")
	listen := flag.String("listen", "", "`address` where it says that it works")
	flag.Parse()

	credentials, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(credentials)
	if err != nil {
		return err
	}
	config := options.NewKubeRouterConfig()
	config.EnableIPv4, config.EnableIPv6 = true, false
	config.HostnameOverride = *node
	config.ClusterIPCIDRs = []string{*services}
	// Ports of the node itself that pods reach whatever their policies say: none. What comes to a node port, kube-proxy has
	// sent on to a pod before these rules are looked at.
	config.NodePortRange = "1-2"

	never := make(chan struct{})
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(never)
	factory.WaitForCacheSync(never)

	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return err
	}
	var setsInUse sync.Mutex
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &setsInUse, tables, sets)
	if err != nil {
		return err
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods: controller.PodEventHandler, namespaces: controller.NamespaceEventHandler, policies: controller.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}

	// A beat begins each pass over all policies; the second says that the first pass has ended.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	works := make(chan struct{})
	go func() {
		<-beats
		controller.RequestFullSync()
		<-beats
		close(works)
		for range beats {
		}
	}()
	failed := make(chan error, 1)
	go func() {
		<-works
		server := http.Server{Addr: *listen, ReadHeaderTimeout: 10 * time.Second}
		server.Handler = http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) { fmt.Fprintln(response, "ok") })
		failed <- server.ListenAndServe()
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(beats, never, &running)
	return errors.Join(errors.New("cannot go on"), <-failed)
}
