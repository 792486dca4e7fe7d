// The end-to-end tests' Kubernetes: control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler), node
// (kubelet, kube-proxy) and kubectl in one static binary.
//
// Nobody publishes these programs where a machine with only package registries in reach could fetch them, but all of
// them are Go packages. One binary shares what they have in common, so it is built once and takes a quarter of the
// space. It is told which of them to be by the name it is called by: the build script makes a symbolic link for each.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	// What the components' own main packages import besides: log formats and metrics register themselves.
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// parts are the programs in here by the name they are called by. A further one is one line here, its import, and its
// name in the build script's list.
var parts = map[string]func() int{
	"etcd":                    func() int { etcdmain.Main(os.Args); return 0 },
	"kube-apiserver":          command(apiserver.NewAPIServerCommand),
	"kube-controller-manager": command(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          command(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 command(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kube-proxy":              command(proxy.NewProxyCommand),
	"kubectl":                 kubectl,
}

func main() {
	name := filepath.Base(os.Args[0])
	part, known := parts[name]
	if !known {
		names := make([]string, 0, len(parts))
		for n := range parts {
			names = append(names, n)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "%s: no such part of the control plane; call this binary by one of these names: %s\n",
			name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(part())
}

// command runs a Kubernetes component. The command is made late, because making one registers global flags.
func command(newCommand func() *cobra.Command) func() int {
	return func() int { return cli.Run(newCommand()) }
}

// kubectl prints errors in its own style, which its callers' tests look for.
func kubectl() int {
	if err := cli.RunNoErrOutput(kubectlcmd.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}
