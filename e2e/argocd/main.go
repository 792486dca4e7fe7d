// argocd-health runs health checks as Argo CD does: Lua on gopher-lua, the object as the global obj, and no library but the
// ones that Argo CD opens (base, package, table; no string, no io).
//
// Each line of stdin is {"script": "...", "object": {...}}, each line of stdout what the script returned for it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// limit is how long Argo CD lets a script run.
const limit = time.Second

type question struct {
	Script string         `json:"script"`
	Object map[string]any `json:"object"`
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// statuses are the ones that Argo CD knows; it refuses any other.
var statuses = map[string]bool{"Healthy": true, "Progressing": true, "Degraded": true, "Suspended": true, "Missing": true, "Unknown": true}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked question
		err := in.Decode(&asked)
		if errors.Is(err, io.EOF) {
			return
		}
		var answer health
		if err == nil {
			answer, err = run(asked)
		}
		if err == nil {
			err = out.Encode(answer)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "argocd-health:", err)
			os.Exit(1)
		}
	}
}

func run(asked question) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return health{}, fmt.Errorf("open the library %q: %w", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", value(state, asked.Object))
	if err := state.DoString(asked.Script); err != nil {
		return health{}, fmt.Errorf("run the script: %w", err)
	}
	returned, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, fmt.Errorf("the script returned a %s, not a table", state.Get(-1).Type())
	}
	answer := health{Status: lua.LVAsString(returned.RawGetString("status")), Message: lua.LVAsString(returned.RawGetString("message"))}
	if !statuses[answer.Status] {
		return health{}, fmt.Errorf("Argo CD knows no status %q", answer.Status)
	}
	return answer, nil
}

// value is what a script sees of a value of JSON.
func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case string:
		return lua.LString(of)
	case float64:
		return lua.LNumber(of)
	case bool:
		return lua.LBool(of)
	case []any:
		table := state.CreateTable(len(of), 0)
		for _, element := range of {
			table.Append(value(state, element))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(of))
		for name, field := range of {
			table.RawSetString(name, value(state, field))
		}
		return table
	default:
		return lua.LNil
	}
}
