// promrules checks a file of rule groups as Prometheus reads it (expressions, durations, templates), and writes one JSON
// object a line for each metric that an expression of the file asks for: the alert, the metric, and the labels that it is
// selected by.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

type selection struct {
	Alert  string            `json:"alert"`
	Metric string            `json:"metric"`
	Labels map[string]string `json:"labels"`
}

func main() {
	if len(os.Args) != 2 {
		fail("usage: promrules FILE")
	}
	groups, problems := rulefmt.ParseFile(os.Args[1], false)
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, "promrules:", problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			expression, err := parser.ParseExpr(rule.Expr)
			if err != nil {
				fail("%s: %v", rule.Alert, err)
			}
			parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
				selector, ok := node.(*parser.VectorSelector)
				if !ok {
					return nil
				}
				found := selection{Alert: rule.Alert, Metric: selector.Name, Labels: map[string]string{}}
				for _, matcher := range selector.LabelMatchers {
					if matcher.Name != labels.MetricName {
						found.Labels[matcher.Name] = matcher.Value
					}
				}
				return out.Encode(found)
			})
		}
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "promrules: "+format+"\n", arguments...)
	os.Exit(1)
}
