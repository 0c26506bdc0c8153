package farm

import (
	"os"
	"runtime/debug"
)

// heapGrowth is how much the heap may grow, in percent of what lives, before
// the collector runs. A tier lives in tens of megabytes and makes garbage of
// tens of kilobytes a job, so Go's own 100 has it collecting all the time: at
// thousands of jobs a second that was an eighth of all processor time. The
// price is memory, a fraction of what one browser takes.
const heapGrowth = 300

// collect sets the pace of the collector, unless the operator has.
func collect() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
