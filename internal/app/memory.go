package app

import (
	"os"
	"runtime/debug"
)

// agentGC is how much garbage the agent lets come together before it is collected, in percent of what is in use: nearly all of that are rows that
// stay, and an endpoint's change makes little garbage, so that half of Go's usual headroom costs next to nothing.
const agentGC = 50

// thrift sets the collector of an agent. Who has set GOGC knows better.
func thrift() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(agentGC)
	}
}
